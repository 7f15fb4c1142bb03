"""What must hold after every row of the battery, whatever was done to the gateway: it answers rightly, nobody died,
memory and file descriptors came back, no answer told of its insides, and every prediction was counted once.
"""

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.limits import MIB
from contracts.metrics import REQUESTS
from tests.battery import models
from tests.e2e.gateway import Answer, Gateway, call, eventually

RECOVERY_SECONDS = 5.0  # for what died to be replaced; rows that may take longer say so
SETTLE_SECONDS = 60.0  # for memory to come back
RSS_RATIO, RSS_SLACK = 1.1, 48 * MIB  # allocators keep some of what a worst body needed once
FD_SLACK = 160  # connections that Envoy keeps to a worker for a minute after a burst
INSIDES = re.compile(r"Traceback|\.py\b|File \"|site-packages|\.sock\b|tensorflow::|XNNPACK")
PAGE = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True)
class Vitals:
    """One moment: pids by name, bytes and descriptors by pid."""

    pids: dict[str, int]
    rss: dict[int, int]
    fds: dict[int, int]

    @classmethod
    def of(cls, gateway: Gateway) -> "Vitals":
        pids = {worker["id"]: worker["pid"] for worker in gateway.workers()} | {"envoy": gateway.envoy_pid()}
        alive = [pid for pid in pids.values() if pid is not None]
        return cls(pids, {pid: rss(pid) for pid in alive}, {pid: open_files(pid) for pid in alive})


def rss(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def peak_rss(pid: int) -> int:
    """The most resident bytes since `forget_peak`."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def open_files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


@dataclass
class Watch:
    """A gateway under a row. Everything heard through it is searched for insides."""

    gateway: Gateway
    before: Vitals
    counted: dict[str, float]
    heard: list[str] = field(default_factory=list)
    deaths: bool = False  # a row that kills sets it: pids may differ and counters start again
    within: float = RECOVERY_SECONDS
    slack: int = RSS_SLACK

    @classmethod
    def begin(cls, gateway: Gateway) -> "Watch":
        gateway.wait_ready()
        return cls(gateway, Vitals.of(gateway), counted(gateway))

    def call(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """One request on a connection of its own."""
        answer = call(self.gateway.url + path, body, headers, **more)
        self.heard.append(answer.body.decode(errors="replace"))
        return answer

    def predict(self, body: Any, model: str = "quick", **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.call(f"/v1/models/{model}:predict", raw, named)

    def infer(self, tensor: dict[str, Any], model: str = "quick") -> Answer:
        body = json.dumps({"inputs": [{"name": "image", **tensor}]}).encode()
        return self.call(f"/v2/models/{model}/infer", body)

    def connect(self, timeout: float = 20.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.gateway.port), timeout=timeout)

    def raw(self, *pieces: bytes, timeout: float = 20.0) -> bytes:
        """Send bytes as they are; return all that is said until the other side hangs up or falls silent."""
        with self.connect(timeout) as wire:
            with contextlib.suppress(ConnectionError):  # whatever was said before it hung up can still be read
                for piece in pieces:
                    wire.sendall(piece)
            return self.read(wire)

    def read(self, wire: socket.socket) -> bytes:
        said = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while piece := wire.recv(65536):
                said += piece
        self.heard.append(said.decode(errors="replace"))
        return said

    def check(self) -> None:
        """The invariants. Called when the row is over."""
        gateway = self.gateway
        eventually("a canary of each model is answered rightly", self._canaries_answer, self.within)
        gateway.wait_ready(self.within)
        if not self.deaths:
            assert Vitals.of(gateway).pids == self.before.pids, "somebody died"
            eventually("every prediction is counted once", self._counts_agree, 10)
        with contextlib.suppress(AssertionError):
            eventually("memory is back", lambda: not self.swollen(), SETTLE_SECONDS, pause=0.25)
        assert self.swollen() == {}, f"bytes before and after by pid; names: {self.before.pids}"
        eventually("descriptors are back", lambda: not self.leaking(), SETTLE_SECONDS, pause=0.25)
        for text in self.heard:
            assert not INSIDES.search(text), text[:500]
            assert str(gateway.home) not in text

    def _canaries_answer(self) -> bool:
        return all(canary(self.gateway, name) for name in self.gateway.deployed())

    def _counts_agree(self) -> bool:
        now = counted(self.gateway)
        rise = {key: now[key] - self.counted[key] for key in now}
        return rise["workers"] == rise["envoy"]

    def swollen(self) -> dict[int, tuple[int, int]]:
        """Processes that hold more memory than before: pid to bytes before and now."""
        now = Vitals.of(self.gateway).rss
        return {
            pid: (was, now[pid])
            for pid, was in self.before.rss.items()
            if now.get(pid, 0) > was * RSS_RATIO + self.slack
        }

    def leaking(self) -> dict[int, tuple[int, int]]:
        now = Vitals.of(self.gateway).fds
        return {pid: (was, now[pid]) for pid, was in self.before.fds.items() if now.get(pid, 0) > was + FD_SLACK}


def canary(gateway: Gateway, model: str) -> bool:
    """Whether a good request is answered, and with its own scores."""
    image = models.rows(5, 41)
    try:
        answer = gateway.predict({"instances": image.tolist()}, f"/v1/models/{model}:predict")
    except OSError:
        return False
    if answer.status != 200:
        return False
    assert models.right(answer.json["predictions"], image), "200 with a wrong body"
    return True


def counted(gateway: Gateway) -> dict[str, float]:
    """Predictions so far as the workers count them, by any outcome, and as Envoy sent them to workers."""
    workers = sum(
        total(gateway.worker_metrics(worker["id"]), REQUESTS.name) for worker in gateway.workers() if worker["pid"]
    )
    return {"workers": workers, "envoy": total(gateway.envoy_metrics(), "envoy_cluster_upstream_rq_total", "predict")}


def total(lines: Iterable[str], name: str, having: str = "") -> float:
    """The sum of a metric's series, of those that mention `having`."""
    series = (line for line in lines if line.startswith(name + "{") and having in line)
    return sum(float(line.rsplit(" ", 1)[1]) for line in series)
