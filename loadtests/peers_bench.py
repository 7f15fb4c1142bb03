"""The same small model on the gateway, on MLServer and on Triton: 32 connections, JSON and gRPC.

All serve the same LiteRT file on one thread, each started alone and stopped before the next. Triton (PyTriton) is asked
with its dynamic batcher on and off, and the better counts. What is not installed is left out, and the report says so.

    python -m loadtests.peers_bench [--rounds 5] [--seconds 6]
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from contracts.package import read_manifest
from loadtests import h2load, wrk
from loadtests.command import Options, options, publish, say
from loadtests.homes import fresh_home, register
from loadtests.peers import running as peers
from loadtests.report import Row, ratios
from loadtests.tensors import grpc_infer, v1_json, v2_json
from tests.e2e.gateway import call, eventually, free_port, running

CONNECTIONS = 32
MODEL = "digits"
TRITON = ("Triton, batching", "Triton, no batching")

Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Server:
    """One contestant that is up."""

    name: str
    url: str
    grpc_port: int


@dataclass(frozen=True)
class Contest:
    """One image in every protocol, and how long to send it."""

    v1: bytes
    v2: bytes
    grpc: bytes
    seconds: float

    def json_rate(self, url: str, body: bytes) -> float:
        answer = call(url, body, {"content-type": "application/json"})
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {answer.body[:300]!r}")
        return wrk.measured(url, body, connections=CONNECTIONS, seconds=self.seconds).rate

    def v2_rate(self, server: Server) -> float:
        return self.json_rate(f"{server.url}/v2/models/{MODEL}/infer", self.v2)

    def grpc_rate(self, server: Server) -> float:
        return h2load.infer_rate(server.grpc_port, self.grpc, connections=CONNECTIONS, seconds=self.seconds)


@contextmanager
def ours(home: Path) -> Iterator[Server]:
    with running(home) as gateway:
        image = {"instances": [[0.0] * 64]}
        path = f"/v1/models/{MODEL}:predict"
        eventually("the model answers", lambda: gateway.predict(image, path).status == 200, peers.START_SECONDS)
        yield Server("gateway", gateway.url, gateway.port)


@contextmanager
def mlserver(venv: Path, model: Path) -> Iterator[Server]:
    port = free_port()
    with peers.mlserver(venv, model, free_port(), port, free_port()) as url:
        yield Server("MLServer", url, port)


@contextmanager
def triton(venv: Path, model: Path, name: str) -> Iterator[Server]:
    port = free_port()
    with peers.pytriton(venv, model, free_port(), port, free_port(), batching=name == TRITON[0]) as url:
        yield Server(name, url, port)


def measure(home: Path, model: Path, contest: Contest, rounds: int) -> tuple[dict[str, Rates], list[str]]:
    """Rates by protocol (`v1`, `v2`, `grpc`) and server, a value for each round; and what is missing."""
    notes = []
    there = {peer: peers.installed(peer) for peer in ("mlserver", "pytriton")}
    notes += [f"{peer} is not installed (loadtests/peers/install {peer})." for peer, venv in there.items() if not venv]
    if not h2load.installed():
        notes.append("h2load is not installed (apt-get install nghttp2-client): no gRPC.")
    rates: dict[str, Rates] = {protocol: defaultdict(list) for protocol in ("v1", "v2", "grpc")}

    def ask(server: Server) -> None:
        say(server.name)
        rates["v2"][server.name].append(contest.v2_rate(server))
        if h2load.installed():
            rates["grpc"][server.name].append(contest.grpc_rate(server))

    for number in range(rounds):
        say(f"round {number + 1}")
        with ours(home) as server:
            rates["v1"][server.name].append(contest.json_rate(f"{server.url}/v1/models/{MODEL}:predict", contest.v1))
            ask(server)
        if (venv := there["mlserver"]) is not None:
            with mlserver(venv, model) as server:
                ask(server)
        if (venv := there["pytriton"]) is not None:
            for name in TRITON:
                with triton(venv, model, name) as server:
                    ask(server)
    return rates, notes


def rows_of(rates: dict[str, Rates]) -> list[Row]:
    words = {"v1": "TF Serving JSON", "v2": "Open Inference JSON", "grpc": "gRPC"}
    rows = [
        Row(f"{server}, {words[protocol]}", "requests/s", tuple(values))
        for protocol, by_server in rates.items()
        for server, values in by_server.items()
    ]
    for protocol, mlserver_goal, triton_goal in (("v2", 6.0, 3.0), ("grpc", 2.0, None)):
        of = rates[protocol]
        if "MLServer" in of:
            name = f"gateway / MLServer, {words[protocol]}"
            rows.append(Row(name, "x", ratios(of["gateway"], of["MLServer"]), mlserver_goal))
        if TRITON[0] in of:
            better = [max(pair) for pair in zip(of[TRITON[0]], of[TRITON[1]], strict=True)]
            name = f"gateway / Triton's better one, {words[protocol]}"
            rows.append(Row(name, "x", ratios(of["gateway"], better), triton_goal))
    return rows


def contest_of(input_name: str, chosen: Options) -> Contest:
    image = (load_digits().data[:1] / 16.0).astype(np.float32)
    return Contest(
        v1_json(image).content, v2_json(input_name, image).content, grpc_infer(MODEL, input_name, image), chosen.seconds
    )


def main() -> None:
    chosen = options("peers_bench", __doc__, rounds=5, seconds=6)
    wrk.require()
    with fresh_home() as home:
        package = register(home, MODEL, "digits/dense")
        contest = contest_of(read_manifest(package).signatures[0].inputs[0].name, chosen)
        with running(home) as gateway:
            gateway.must("deploy", MODEL, "1", "--wait")
        rates, notes = measure(home, package / "plans" / "litert" / "model.tflite", contest, chosen.rounds)
    notes.append(
        f"{chosen.rounds} rounds of {chosen.seconds:g} s, interleaved, {CONNECTIONS} connections; load from wrk and "
        "h2load, 1 thread."
    )
    publish("peers", "The gateway beside MLServer and Triton", rows_of(rates), notes)


if __name__ == "__main__":
    main()
