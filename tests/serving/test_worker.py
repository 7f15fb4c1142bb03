"""The real worker process, from its command line to its exit code."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.names import Color
from contracts.worker import EXIT_BAD_PACKAGE, EXIT_CRASHED, EXIT_DRAINED, EXIT_USAGE, WorkerSpec
from tests.serving.packages import DENSE, Package, finish
from tests.serving.process import PATIENCE, ROOT, free_port, wait_for, worker

pytestmark = pytest.mark.tensorflow  # the packages are made with it

ROW = {"instances": [[1.0, 2.0, 3.0]]}
NEVER_TIMED = "1 thread: this plan was never timed with more"
SCORES = [[4.0, 5.0]]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_litert_package_is_served_and_drained(litert: Package, tmp_path: Path, threads: int) -> None:
    with worker(litert, tmp_path, threads=threads) as running:
        answer = running.predict(ROW)
        assert answer.json() == {"predictions": SCORES}
        assert answer.headers["x-teal-version"] == "7"
        page = running.http.get("/worker").json()
        assert page["plan"] == "litert"
        assert page["threads"]["count"] == (threads or 1)
        assert page["threads"]["reason"] == ("2 threads, as asked for" if threads else NEVER_TIMED)
        running.predict(ROW, headers={"x-request-id": "r1"})
        (told,) = running.http.post("/worker/answers", json={"ids": ["r1", "nobody"]}).json()["answers"]
        assert (told["id"], told["rows"], told["kind"], told["predicted"]) == ("r1", 1, "class", [1])
        metrics = running.http.get("/metrics").text
        assert 'teal_worker_info{color="blue",digest="' in metrics
        counted = re.search(r'teal_prediction_bin_total\{bin="1",.*\} (\S+)', metrics)
        assert counted is not None
        assert float(counted[1]) >= 1
        assert running.stop() == EXIT_DRAINED
        assert not Path(running.spec.socket).exists()


def test_a_tensorflow_package_is_served_with_strings(tensorflow: Package, tmp_path: Path) -> None:
    with worker(tensorflow, tmp_path, threads=1) as running:
        assert running.predict(ROW).json() == {"predictions": SCORES}
        shouted = running.predict({"signature_name": "upper", "instances": ["hi", {"b64": "aGk="}]})
        assert shouted.json() == {"predictions": ["HI", "HI"]}
        assert running.stop() == EXIT_DRAINED


def test_a_litert_worker_imports_nothing_heavy_and_stays_small(litert: Package, tmp_path: Path) -> None:
    probe = """
import sys, threading, time, runpy, signal, os
def look():
    while not any("ready after" in line for line in open(os.environ["WORKER_LOG"])):
        time.sleep(0.05)
    heavy = sorted({n.split(".")[0] for n in sys.modules} & {"tensorflow", "grpc", "fastapi", "pydantic", "sklearn", "pandas", "scipy", "keras", "httpx"})
    rss = int(open("/proc/self/statm").read().split()[1]) * 4096
    print("HEAVY", heavy, "RSS", rss, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=look, daemon=True).start()
runpy.run_module("serving", run_name="__main__")
"""  # noqa: E501
    log = tmp_path / "log"
    spec = WorkerSpec("m", 1, Color.BLUE, str(litert.root), litert.digest, str(tmp_path / "s"), drain_seconds=0)
    command = [sys.executable, "-c", probe, *spec.argv()[3:]]
    with log.open("w") as stream:
        done = subprocess.run(
            command, cwd=ROOT, stderr=stream, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
            env=os.environ | {"WORKER_LOG": str(log)},
        )  # fmt: skip
    assert done.returncode == EXIT_DRAINED, log.read_text()
    heavy, _, rss = done.stdout.partition("RSS")
    assert heavy.strip() == "HEAVY []"
    assert int(rss) < 150 * 1024 * 1024


def test_a_changed_package_is_refused_before_it_is_loaded(litert: Package, tmp_path: Path) -> None:
    with (litert.root / "plans/litert/model.tflite").open("ab") as stream:
        stream.write(b"x")
    with worker(litert, tmp_path, ready=False) as running:
        assert running.process.wait(PATIENCE) == EXIT_BAD_PACKAGE
        assert "plans/litert/model.tflite has sha256" in running.log
        assert "Traceback" not in running.log


@pytest.mark.parametrize("spoil", ["digest", "no package", "manifest"])
def test_what_is_not_the_package_it_should_be_is_refused(litert: Package, tmp_path: Path, spoil: str) -> None:
    root, digest = litert.root, litert.digest
    if spoil == "digest":
        digest = "0" * 64
    elif spoil == "manifest":
        (root / "manifest.json").write_text("{")
    else:
        root = tmp_path / "nowhere"
    with worker(Package(root, digest), tmp_path, ready=False) as running:
        assert running.process.wait(PATIENCE) == EXIT_BAD_PACKAGE
        assert "package" in running.log


def test_a_file_that_is_no_model_is_a_bad_package(models: Path, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    (root / "plans/litert").mkdir(parents=True)
    (root / "plans/litert/model.tflite").write_bytes(b"not a model" * 100)
    package = finish(root, "litert", "plans/litert/model.tflite", (DENSE,), with_samples=True)
    with worker(package, tmp_path, ready=False) as running:
        assert running.process.wait(PATIENCE) == EXIT_BAD_PACKAGE
        assert "the model does not load" in running.log


@pytest.mark.parametrize(
    "arguments", [[], ["--version", "0"], ["--model", "../x"], ["--color", "red"], ["--drain-seconds", "nan"]]
)
def test_wrong_arguments_are_usage_errors(arguments: list[str]) -> None:
    base = ["--model", "m", "--version", "1", "--color", "blue", "--package", "p", "--digest", "d", "--socket", "s/s"]
    command = [sys.executable, "-m", "serving", *(base + arguments if arguments else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == EXIT_USAGE
    assert "usage:" in done.stderr


def test_tcp_works_and_a_port_in_use_is_said_clearly(litert: Package, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with worker(litert, tmp_path, socket=address) as running:
        assert running.predict(ROW).status_code == 200
        with worker(litert, tmp_path, socket=address, ready=False) as second:
            assert second.process.wait(PATIENCE) == EXIT_CRASHED
            assert f"cannot listen on {address}" in second.log


def test_a_dead_workers_socket_is_replaced_and_a_live_ones_is_not(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as first:
        first.process.kill()
        first.process.wait(PATIENCE)
        assert Path(first.spec.socket).exists()
        with worker(litert, tmp_path) as second:
            assert second.predict(ROW).status_code == 200
            assert stat.S_IMODE(Path(second.spec.socket).stat().st_mode) == 0o600
            with worker(litert, tmp_path, ready=False) as third:
                assert third.process.wait(PATIENCE) == EXIT_CRASHED
                assert "in use" in third.log
            assert second.predict(ROW).status_code == 200


def test_a_socket_that_somebody_else_put_there_is_left_alone(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as running:
        path = Path(running.spec.socket)
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert running.stop() == EXIT_DRAINED
            assert path.exists()


def test_a_drain_under_load_fails_no_request(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as running:
        results: list[Any] = []
        draining, stopped = threading.Event(), threading.Event()

        def client() -> None:
            transport = httpx.HTTPTransport(uds=running.spec.socket)
            with httpx.Client(transport=transport, base_url="http://worker") as http:
                while not stopped.is_set():
                    answer = http.post("/v1/models/digits:predict", json=ROW)
                    results.append(answer.status_code)
                    if answer.headers.get("connection") == "close":
                        draining.set()
                        return  # as Envoy does: this worker wants to be left

        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        wait_for(lambda: len(results) > 50, "under load")
        os.kill(running.process.pid, signal.SIGTERM)
        for thread in clients:
            thread.join(PATIENCE)
        stopped.set()
        assert draining.is_set()
        assert set(results) == {200}
        assert running.process.wait(PATIENCE) == EXIT_DRAINED


def test_ready_turns_503_at_once_and_requests_are_answered_through_the_grace(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path, drain_seconds=30.0) as running:
        os.kill(running.process.pid, signal.SIGTERM)
        wait_for(lambda: running.http.get("/v2/health/ready").status_code == 503, "unready")
        answer = running.predict(ROW)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert running.http.get("/worker").json()["state"] == "draining"
        os.kill(running.process.pid, signal.SIGTERM)  # a second one ends the grace
        assert running.process.wait(PATIENCE) == EXIT_DRAINED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_drain_and_sighup_does_nothing(litert: Package, tmp_path: Path, number: int) -> None:
    with worker(litert, tmp_path) as running:
        os.kill(running.process.pid, signal.SIGHUP)
        wait_for(lambda: "SIGHUP" in running.log, "logged")
        assert running.predict(ROW).status_code == 200
        assert running.stop(number) == EXIT_DRAINED


def test_a_signal_during_loading_ends_the_worker(tensorflow: Package, tmp_path: Path) -> None:
    with worker(tensorflow, tmp_path, ready=False) as running:
        wait_for(running.listens, "listening")
        began = running.http.get("/v2/health/ready").status_code
        assert running.stop() == EXIT_DRAINED
        assert began == 503 or "ready after" in running.log


def test_slow_and_broken_clients_leave_no_trace(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as running:
        descriptors = len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))
        partial = b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        for cut in (0, 10, 60, len(partial)):
            for _ in range(50):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(running.spec.socket)
                    client.sendall(partial[:cut])
        assert running.predict(ROW).status_code == 200
        wait_for(lambda: len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())) <= descriptors + 2, "closed")


def test_pipelined_requests_are_answered_in_order(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as running, socket.socket(socket.AF_UNIX) as client:
        client.connect(running.spec.socket)
        client.settimeout(PATIENCE)
        for i in range(20):
            body = f'{{"signature_name":"half","instances":[{i}]}}'.encode()
            head = f"POST /v1/models/digits:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
        received = b""
        until = time.monotonic() + PATIENCE
        while received.count(b"predictions") < 20 and time.monotonic() < until:
            received += client.recv(65536)
        found = [float(piece.split(b"]")[0]) for piece in received.split(b'{"predictions":[')[1:]]
        assert found == [i / 2 + 2 for i in range(20)]
