"""What ten thousand models of two versions each cost the router: to build, to send, to hold, and for each request.

Two Envoys run at the same time, one with ten models and one with ten thousand, each on one connection, and requests
alternate between the two, so that a slow moment of the machine hits both. A prediction goes to a stand-in that answers
at once, so that what is timed is routing. Only ten models have one: with those of all, health checks would be all that
is measured. Questions about a model's state, which Envoy answers from its routes, go to all models in turn.

    python -m loadtests.routing_bench [--rounds 5] [--seconds 5]
"""

import asyncio
import gc
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from contracts.limits import MIB
from contracts.names import Color
from contracts.traffic import TOTAL, TrafficSplit
from loadtests.command import Options, options, publish, say
from loadtests.memory import megabytes
from loadtests.report import Row, ratios
from router.bootstrap import binary
from router.snapshot import Snapshot, build
from router.table import Backend, ModelRoutes, RoutingTable
from tests.router.gateway import Gateway, gateway

FEW, MANY = 10, 10_000
HEAP = 16 * 1024 * MIB
NOBODY: tuple[str, ...] = ()
_TYPE = "type.googleapis.com/envoy.extensions.filters."


def models(count: int, worker: str = "", *, round_: int = 0, first: int = TOTAL // 10) -> RoutingTable:
    """`count` models with a split each; `first` is the candidate's share of the first model. With a `worker`, as many
    as FEW of them, evenly spread, have it. Another round has other packages, so that nothing of it was made before."""
    made = []
    for n in range(count):
        endpoints = (worker,) if worker and n % (count // FEW) == 0 else NOBODY
        digests = (f"{round_:04x}{n:08x}{color:052x}" for color in (0, 1))
        backends = tuple(Backend(v, digest, c, endpoints) for v, digest, c in zip((1, 2), digests, Color, strict=True))
        split = TrafficSplit.with_share(Color.GREEN, first if n == 0 else TOTAL // 10)
        made.append(ModelRoutes(name(n), backends, split, {"live": 1, "candidate": 2, "blue": 1, "green": 2}))
    return RoutingTable(tuple(made))


def name(n: int) -> str:
    return f"model-{n:05d}"


@contextmanager
def stand_in(folder: Path) -> Iterator[str]:
    """An Envoy that answers everything with the same; yields its socket."""
    path = str(folder / "worker.sock")
    manager = {
        "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "worker",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": _TYPE + "http.router.v3.Router"}}],
    }
    listener = {
        "name": "worker",
        "address": {"pipe": {"path": path}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    config = folder / "worker.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [binary(), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "off"]
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 10
        while not Path(path).exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait(10)


class Caller:
    """One kept connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> float:
        """Seconds until the whole answer was here. Raises RuntimeError when it is not a 200."""
        began = time.perf_counter()
        self._socket.sendall(request)
        said = self._socket.recv(65536)
        took = time.perf_counter() - began
        head, _, body = said.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or b"content-length: %d\r\n" % len(body) not in head + b"\r\n":
            raise RuntimeError(f"no number from this round: {said[:200]!r}")
        return took

    def close(self) -> None:
        self._socket.close()


def predictions(count: int) -> list[bytes]:
    """One for each model that has a worker, sent without a body so that it is one segment."""
    asked = (name(n) for n in range(0, count, count // FEW))
    return [
        f"POST /v1/models/{each}:predict HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n".encode() for each in asked
    ]


def questions(count: int) -> list[bytes]:
    return [f"GET /v1/models/{name(n)} HTTP/1.1\r\nhost: t\r\n\r\n".encode() for n in range(count)]


@dataclass
class Sides:
    """Medians in seconds, round by round, of the gateway with few models and of the one with many."""

    few: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)

    def measure(
        self, few: Gateway, many: Gateway, asked: tuple[Sequence[bytes], Sequence[bytes]], seconds: float
    ) -> None:
        callers = Caller(few.config.port), Caller(many.config.port)
        took: tuple[list[float], list[float]] = [], []
        requests = cycle(asked[0]), cycle(asked[1])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for caller, request, seen in zip(callers, requests, took, strict=True):
                seen.append(caller.ask(next(request)))
        for caller in callers:
            caller.close()
        self.few.append(statistics.median(took[0]))
        self.many.append(statistics.median(took[1]))

    def rows(self, what: str, goal: float | None) -> list[Row]:
        microseconds = tuple(1e6 * each for each in self.many)
        return [
            Row(f"{what}: p50 at {MANY:,} models over p50 at {FEW}", "times", ratios(self.many, self.few), goal, False),
            Row(f"{what}: p50 at {MANY:,} models", "µs", microseconds),
        ]


def complete(table: RoutingTable) -> Snapshot:
    """A snapshot with everything that is sent of it."""
    made = build(table)
    _ = made.routes, made.version
    return made


def building(rounds: int) -> tuple[float, ...]:
    """Seconds to build all of it, when nothing was built before."""
    took = []
    for n in range(rounds):
        table = models(MANY, round_=n + 1)
        gc.collect()
        began = time.perf_counter()
        complete(table)
        took.append(time.perf_counter() - began)
    return tuple(took)


async def measure(chosen: Options) -> list[Row]:
    say(f"building {MANY:,} models")
    built = building(chosen.rounds)
    predicting, asking, changes = Sides(), Sides(), Sides()
    with tempfile.TemporaryDirectory(prefix="teal-b-") as folder, stand_in(Path(folder)) as worker:
        async with gateway(heap_bytes=HEAP) as few, gateway(heap_bytes=HEAP) as many:
            await few.router.publish(models(FEW, worker))
            say(f"publishing {MANY:,} models")
            began = time.perf_counter()
            acknowledged = (await many.router.publish(models(MANY, worker))).seconds
            published = time.perf_counter() - began
            sizes = [megabytes([g.process.pid]) for g in (few, many) if g.process is not None]
            for n in range(chosen.rounds):
                say(f"round {n + 1} of {chosen.rounds}")
                predicting.measure(few, many, (predictions(FEW), predictions(MANY)), chosen.seconds)
                asking.measure(few, many, (questions(FEW), questions(MANY)), chosen.seconds)
                for g, count, seen in ((few, FEW, changes.few), (many, MANY, changes.many)):
                    table = models(count, worker, first=TOTAL // 100 * (n + 20))
                    began = time.perf_counter()
                    await g.router.publish(table)
                    seen.append(time.perf_counter() - began)
            most = megabytes([many.process.pid]) if many.process is not None else 0.0
    return [
        Row(f"build a snapshot of {MANY:,} models with two versions from nothing", "s", built, 2.0, False),
        Row("publish it to an Envoy that has nothing: until it is acknowledged", "s", (acknowledged,)),
        Row("publish it to an Envoy that has nothing: all of it, building included", "s", (published,)),
        *predicting.rows("prediction", 1.2),
        *asking.rows("state of one model, all in turn", None),
        Row(f"change one weight among {FEW} models, until every thread routes by it", "s", tuple(changes.few)),
        Row(f"change one weight among {MANY:,} models, until every thread routes by it", "s", tuple(changes.many)),
        Row(f"Envoy's memory with {FEW} models", "MB", (sizes[0],)),
        Row(f"Envoy's memory with {MANY:,} models", "MB", (sizes[1],)),
        Row(f"Envoy's memory with {MANY:,} models, after their routes were sent again", "MB", (most,)),
    ]


def main() -> None:
    chosen = options("routing_bench", __doc__, rounds=5, seconds=5.0)
    notes = [
        f"Each model has two versions, a split of 90 and 10 %, and four labels; {FEW} of them have workers.",
        "A request alternates between both gateways, on one connection each; the caller is Python, whose part is in "
        "both numbers.",
        f"Envoy's limit of memory was set to {HEAP // MIB // 1024} GiB for this; it is 2 GiB by default.",
    ]
    publish("routing", f"Routing with {FEW} and {MANY:,} models", asyncio.run(measure(chosen)), notes)


if __name__ == "__main__":
    main()
