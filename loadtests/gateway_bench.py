"""What the gateway costs: Envoy, worker and all metrics beside the bare engine and beside MLServer, in one run.

Every round measures each contestant for the same time, one after the other, so that a slow minute of the machine hits
all of them. Ratios are made round by round; the report gives their median and spread. Start-up times and memory are
measured once per round as well.

    python -m loadtests.gateway_bench [--rounds 5] [--seconds 6]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from contracts.names import Color
from contracts.worker import PATH_READY, WorkerSpec
from loadtests import report, wrk
from loadtests.bare_envoy import bare_envoy
from loadtests.command import options, publish
from loadtests.peers import running as peers
from loadtests.report import Row
from tests.e2e.gateway import Gateway, call, free_port, running, train_and_register

CONNECTIONS = 32


@dataclass(frozen=True)
class Bodies:
    """The same digit image in the two protocols. Pixels are multiples of 1/16, as in the data set."""

    v1: bytes
    v2: bytes


def bodies(input_name: str) -> Bodies:
    row = (load_digits().data[0] / 16.0).astype(np.float32).tolist()
    tensor = {"name": input_name, "shape": [1, 64], "datatype": "FP32", "data": row}
    return Bodies(v1=json.dumps({"instances": [row]}).encode(), v2=json.dumps({"inputs": [tensor]}).encode())


@contextmanager
def baseline(model: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.baseline", str(model), str(port)]
    with peers.serving(command, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}/"


def throughput(gateway: Gateway, model: Path, digest: str, rounds: int, seconds: float) -> tuple[list[Row], list[str]]:
    """Requests per second at 32 connections and the median at 1, for the gateway, the bare engine and MLServer."""
    notes = []
    sent = bodies(gateway.predict_metadata()["inputs"][0]["name"])
    v1, v2 = f"{gateway.url}/v1/models/digits:predict", f"{gateway.url}/v2/models/digits/infer"
    ours, ours_v2, bare, added, floor, peer = [], [], [], [], [], []
    venv = peers.installed("mlserver")
    if venv is None:
        notes.append("MLServer is not installed (loadtests/peers/install mlserver): its rows are missing.")
    for _ in range(rounds):
        with baseline(model) as url:
            bare.append(wrk.measured(url, sent.v1, connections=CONNECTIONS, seconds=seconds).rate)
            alone = wrk.measured(url, sent.v1, connections=1, seconds=seconds).p50
        with tempfile.TemporaryDirectory() as folder:
            package = gateway.home / "packages" / digest
            with bare_envoy(Path(folder), package, digest, free_port()) as url:
                through = wrk.measured(f"{url}/v1/models/digits:predict", sent.v1, connections=1, seconds=seconds)
                floor.append(through.p50 - alone)
        ours.append(wrk.measured(v1, sent.v1, connections=CONNECTIONS, seconds=seconds).rate)
        added.append(wrk.measured(v1, sent.v1, connections=1, seconds=seconds).p50 - alone)
        ours_v2.append(wrk.measured(v2, sent.v2, connections=CONNECTIONS, seconds=seconds).rate)
        if venv is not None:
            with peers.mlserver(venv, model, free_port(), free_port(), free_port()) as url:
                there = f"{url}/v2/models/digits/infer"
                peer.append(wrk.measured(there, sent.v2, connections=CONNECTIONS, seconds=seconds).rate)
    rows = [
        Row("bare engine on uvicorn, no Envoy, 32 connections", "requests/s", tuple(bare)),
        Row("gateway, TF Serving JSON, 32 connections", "requests/s", tuple(ours)),
        Row("gateway / bare engine", "x", report.ratios(ours, bare), goal=0.45),
        Row("gateway, Open Inference JSON, 32 connections", "requests/s", tuple(ours_v2)),
        Row("median added by the gateway, 1 connection", "µs", tuple(a * 1e6 for a in added), 150, at_least=False),
        Row("of which Envoy with an empty configuration", "µs", tuple(f * 1e6 for f in floor)),
    ]
    if peer:
        rows.insert(4, Row("MLServer 1.7, Open Inference JSON, 32 connections", "requests/s", tuple(peer)))
        rows.insert(5, Row("gateway / MLServer, same protocol and body", "x", report.ratios(ours_v2, peer), goal=5))
    return rows, notes


def start_up(home: Path, rounds: int) -> list[Row]:
    """Control plane start to the first prediction of a deployed model; and one worker alone."""
    firsts, helps = [], []
    body = bodies("unused").v1
    for _ in range(rounds):
        gateway = Gateway(home)
        begin = time.perf_counter()
        gateway.spawn()
        try:
            while not _answers(gateway, body):
                time.sleep(0.005)
            firsts.append(time.perf_counter() - begin)
        finally:
            gateway.stop()
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "deploy.cli.main", "--help"], check=True, capture_output=True)
        helps.append(time.perf_counter() - begin)
    return [
        Row("teal up to the first prediction of a deployed model", "s", tuple(firsts), 4, at_least=False),
        Row("teal --help", "s", tuple(helps), 0.5, at_least=False),
    ]


def _answers(gateway: Gateway, body: bytes) -> bool:
    try:
        return call(f"{gateway.url}/v1/models/digits:predict", body).status == 200
    except OSError:
        return False


def worker_alone(package: Path, digest: str, rounds: int) -> list[Row]:
    """`python -m serving` on the package: start to ready, and its resident memory then."""
    starts, memory = [], []
    for _ in range(rounds):
        port = free_port()
        spec = WorkerSpec("digits", 1, Color.BLUE, str(package), digest, f"127.0.0.1:{port}")
        begin = time.perf_counter()
        process = subprocess.Popen(spec.argv(), stderr=subprocess.DEVNULL)
        try:
            while not _ready(f"http://127.0.0.1:{port}{PATH_READY}"):
                if process.poll() is not None:
                    raise RuntimeError(f"the worker exited with {process.returncode}")
                time.sleep(0.005)
            starts.append(time.perf_counter() - begin)
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        finally:
            process.terminate()
            process.wait(40)
    return [
        Row("worker start to ready, LiteRT plan", "s", tuple(starts), 1.5, at_least=False),
        Row("worker resident memory when ready", "MiB", tuple(memory), 150, at_least=False),
    ]


def _ready(url: str) -> bool:
    try:
        return call(url).status == 200
    except OSError:
        return False


def main() -> None:
    chosen = options("gateway_bench", __doc__, rounds=5, seconds=6)
    wrk.require()
    with tempfile.TemporaryDirectory(prefix="teal-bench-") as folder:
        root = Path(folder)
        home = root / "home"
        train_and_register(root / "trained", home, ["digits"])
        with running(home) as gateway:
            gateway.must("deploy", "digits", "1")
            version: dict[str, Any] = gateway.must("models", "digits", "1")
            package = home / "packages" / version["digest"]
            model = package / "plans" / "litert" / "model.tflite"
            rows, notes = throughput(gateway, model, version["digest"], chosen.rounds, chosen.seconds)
        rows += start_up(home, chosen.rounds)
        rows += worker_alone(package, version["digest"], chosen.rounds)
    notes.append(
        f"{chosen.rounds} rounds of {chosen.seconds:g} s per contestant, interleaved; load from wrk, 1 thread."
    )
    publish("gateway", "What the gateway costs", rows, notes)


if __name__ == "__main__":
    main()
