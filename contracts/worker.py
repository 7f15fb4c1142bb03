"""How the control plane starts a worker and what the two say to each other.

The control plane runs `python -m serving` with the arguments of a WorkerSpec. The worker serves predictions and
the paths below on its socket, exits 0 after a drain and with one of the codes below when it cannot go on.
"""

import sys
from dataclasses import dataclass

from contracts.names import Color

PATH_READY = "/v2/health/ready"  # 200 once every bucket is warm, 503 before and while draining
PATH_LIVE = "/v2/health/live"
PATH_METRICS = "/metrics"  # Prometheus text; reachable on the worker's own socket only, never routed by Envoy
# JSON: {"model","version","color","digest","plan","threads":{"count","reason"},"pid","state","reason","suspicion"}; the
# last is empty while the model answers as its signature says.
PATH_WORKER = "/worker"
# What this worker answered lately, from a bounded memory (contracts.limits), by the request's x-request-id; reachable
# on the worker's own socket only, as the two above. POST {"ids": [request id, …]} answers {"answers": [Answered]} for
# those it knows, at most ANSWERS_TOLD ids at a time. GET ?share=N&after=SECONDS answers {"next": SECONDS, "answers":
# [Answered]} of the requests after that moment whose crc32(id) is a multiple of N, the oldest ANSWERS_TOLD of them, so
# that two workers asked for the same share tell of the same requests; ask on from `next`. Without `after` it only says
# what is next. SECONDS are of the worker's own monotonic clock. Answered: {"id", "at" (wall seconds of the answer),
# "rows", "kind": "class", "score", "text" or null where the outputs cannot be read so or were too big to be kept,
# "predicted": [one value per row: class index, score or text; null for what is no number; none without a kind]}.
PATH_ANSWERS = "/worker/answers"
ANSWERS_TOLD = 1000

EXIT_DRAINED = 0
EXIT_CRASHED = 1
EXIT_USAGE = 2
EXIT_BAD_PACKAGE = 3  # the package does not verify or does not load: starting again will not help


@dataclass(frozen=True)
class WorkerSpec:
    """One worker: exactly one model version for its whole life.

    package    directory of the package          digest   what it must hash to
    socket     Unix socket path to listen on, or "host:port" for TCP
    threads    intra-op threads of the engine; 0 lets the worker choose
    replicas   workers of this version that share the machine's cores, this one included
    drain_seconds   longest time from SIGTERM to exit
    gentle     others serve meanwhile and come first: load at low priority, serve at the usual one
    quarantine   folder that the workers of one version share, for crash journals and refused inputs; "" shares nothing
    packed     folder where they share weights packed for this machine; "" packs in every worker
    """

    model: str
    version: int
    color: Color
    package: str
    digest: str
    socket: str
    threads: int = 0
    drain_seconds: float = 30.0
    replicas: int = 1
    gentle: bool = False
    quarantine: str = ""
    packed: str = ""

    def argv(self) -> list[str]:
        return [
            sys.executable, "-m", "serving",
            "--model", self.model,
            "--version", str(self.version),
            "--color", self.color.value,
            "--package", self.package,
            "--digest", self.digest,
            "--socket", self.socket,
            "--threads", str(self.threads),
            "--replicas", str(self.replicas),
            "--drain-seconds", str(self.drain_seconds),
            *(("--gentle",) if self.gentle else ()),
            *(("--quarantine", self.quarantine) if self.quarantine else ()),
            *(("--packed", self.packed) if self.packed else ()),
        ]  # fmt: skip
