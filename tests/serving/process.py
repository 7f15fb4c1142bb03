"""A real worker process and what a test may ask of it. Always ends the process it started."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from contracts.names import Color
from contracts.worker import WorkerSpec
from tests.serving.packages import Package

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; a bound on waiting, not a claim about speed


class RunningWorker:
    def __init__(self, process: "subprocess.Popen[str]", spec: WorkerSpec, log: Path) -> None:
        self.process, self.spec, self.log_path = process, spec, log
        if "/" in spec.socket:
            transport = httpx.HTTPTransport(uds=spec.socket)
            self.http = httpx.Client(transport=transport, base_url="http://worker", timeout=PATIENCE)
        else:
            self.http = httpx.Client(base_url=f"http://{spec.socket}", timeout=PATIENCE)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_ready(self) -> None:
        wait_for(lambda: self.process.poll() is not None or self.answers_ready(), "ready")
        assert self.process.poll() is None, self.log

    def answers_ready(self) -> bool:
        return self.listens() and self.http.get("/v2/health/ready").status_code == 200

    def listens(self) -> bool:
        """Asked with a socket of our own: httpx leaves one open when it cannot connect."""
        unix = "/" in self.spec.socket
        host, _, port = self.spec.socket.rpartition(":")
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
            return probe.connect_ex(self.spec.socket if unix else (host, int(port))) == 0

    def predict(self, body: Any, **kwargs: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"/v1/models/{self.spec.model}:predict", content=content, **kwargs)

    def stop(self, number: int = signal.SIGTERM) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE)


@contextmanager
def worker(
    package: Package, tmp_path: Path, *, ready: bool = True, session: bool = False, **changes: Any
) -> Iterator[RunningWorker]:
    """`session` starts it in one of its own, as the fleet does."""
    values = {"socket": str(tmp_path / "w.sock"), "drain_seconds": 3.0, "digest": package.digest} | changes
    spec = WorkerSpec("digits", 7, Color.BLUE, str(package.root), **values)
    log = tmp_path / f"worker-{time.monotonic_ns()}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            spec.argv(), cwd=ROOT, stderr=stream, stdout=stream, text=True, start_new_session=session
        )
    running = RunningWorker(process, spec, log)
    try:
        if ready:
            running.wait_ready()
        yield running
    finally:
        running.http.close()
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


def wait_for(condition: Any, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"never {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
