"""A running gateway as an end-to-end test sees it: the real command line, the real Envoy, real workers.

Everything goes through the public doors: `teal …`, the predictions port, the operating port. Only faults (kill -9)
need process ids, and those come from `teal status --json`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

START_SECONDS = 60.0
STOP_SECONDS = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, ask: Callable[[], T | None], seconds: float, pause: float = 0.05) -> T:
    """Ask until the answer is not None or false; fail naming what never came true."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last answer {answer!r}")
        time.sleep(pause)


def call(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str | None = None
) -> Answer:
    """One request on a fresh connection; HTTP errors are answers, connection failures raise OSError."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=40) as reply:  # noqa: S310
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@dataclass
class Gateway:
    """`teal up` on a home of its own. Use `running()` so that nothing is left behind."""

    home: Path
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def teal(self, *arguments: str, timeout: float = 120.0) -> Ran:
        command = [sys.executable, "-m", "deploy.cli.main", *arguments, "--home", str(self.home)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        return Ran(run.returncode, run.stdout, run.stderr)

    def killed(self, arguments: Sequence[str], after: float) -> None:
        """Run a command and kill -9 it, with what it started, after so many seconds."""
        command = [sys.executable, "-m", "deploy.cli.main", *arguments, "--home", str(self.home)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def must(self, *arguments: str, timeout: float = 120.0) -> Any:
        """Run a command with --json, expect success, return what it printed."""
        ran = self.teal(*arguments, "--json", timeout=timeout)
        assert ran.code == 0, f"teal {' '.join(arguments)} exited {ran.code}: {ran.err or ran.out}\n{self.log_tail()}"
        return ran.json

    def start(self) -> None:
        self.spawn()
        eventually("the gateway answers", self._answers, START_SECONDS)

    def spawn(self) -> None:
        """Start `teal up` and do not wait."""
        command = [sys.executable, "-m", "deploy.cli.main", "up", "--home", str(self.home)]
        command += ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        log = (self.home.parent / f"{self.home.name}-up.log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"teal up exited {self.process.returncode}: {self.log_tail()}"
        try:
            healthy = call(f"{self.admin}/healthz").status == 200
            return healthy and call(f"{self.url}/v2/health/live").status == 200
        except OSError:
            return False

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(with_signal)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def kill_control_plane(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def status(self, model: str = "digits") -> Any:
        return call(f"{self.admin}/api/v1/models/{model}/status").json

    def gateway_status(self) -> Any:
        return call(f"{self.admin}/api/v1/status").json["gateway"]

    def worker_pids(self, role: str = "live", model: str = "digits") -> list[int]:
        place = self.status(model)[role]
        return [w["pid"] for w in place["workers"] if w["state"] == "ready"]

    def deployed(self) -> list[str]:
        """Names of the models that have a live version."""
        return [m["model"] for m in call(f"{self.admin}/api/v1/status").json["models"] if m["live"]]

    def workers(self) -> list[Any]:
        """Every worker of every model as the status shows it: id, state, pid, restarts, reason."""
        models = call(f"{self.admin}/api/v1/status").json["models"]
        places = [m[role] for m in models for role in ("live", "candidate", "previous") if m[role]]
        return [worker for place in places for worker in place.get("workers", [])]

    def wait_ready(self, seconds: float = 5.0) -> None:
        """Return once every worker is ready in the eyes of the fleet and of Envoy."""
        eventually("every worker is ready", lambda: all(w["state"] == "ready" for w in self.workers()), seconds)

    def worker_metrics(self, worker_id: str) -> list[str]:
        return call(f"{self.admin}/metrics/workers/{worker_id}").body.decode().splitlines()

    def envoy_metrics(self) -> list[str]:
        return call(f"{self.admin}/metrics/envoy").body.decode().splitlines()

    def healthy_workers(self, version: int = 1, model: str = "digits") -> int:
        """How many workers of a version Envoy itself holds for healthy: the capacity that clients have."""
        label = f'model="{model}",version="{version}"'
        series = [line for line in self.envoy_metrics() if label in line]
        return sum(int(float(s.split()[-1])) for s in series if s.startswith("envoy_cluster_membership_healthy"))

    def envoy_pid(self) -> int:
        return int(self.gateway_status()["envoy_pid"])

    def order(self, verb: str, model: str = "digits", **body: Any) -> Any:
        """A command over the operating API; returns the status it answers with."""
        answer = call(
            f"{self.admin}/api/v1/models/{model}/{verb}",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        assert answer.status == 200, f"{verb}: {answer.status} {answer.body.decode()}"
        return answer.json

    def predict(self, body: Any, path: str = "/v1/models/digits:predict", **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return call(self.url + path, raw, {k.replace("_", "-"): v for k, v in headers.items()})

    def get(self, path: str) -> Answer:
        return call(self.url + path)

    def predict_metadata(self, model: str = "digits") -> Any:
        return self.get(f"/v2/models/{model}").json

    def processes(self) -> list[int]:
        """Every process of this home: their command lines or environments name it."""
        token = str(self.home).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
                zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if token in words and not zombie:
                found.append(int(entry.name))
        return found

    def log_tail(self, size: int = 4000) -> str:
        log = self.home.parent / f"{self.home.name}-up.log"
        return log.read_text(errors="replace")[-size:] if log.exists() else ""


@contextmanager
def running(home: Path) -> Iterator[Gateway]:
    """A gateway that is up; stopped, and checked for orphans, at the end."""
    gateway = Gateway(home)
    try:
        gateway.start()
        yield gateway
        if gateway.process is not None:
            assert gateway.stop() == 0, gateway.log_tail()
        eventually("no process of this home is left", lambda: not gateway.processes(), 10)
    finally:
        end_all(gateway)


def end_all(gateway: Gateway) -> None:
    """Whatever happened, leave nothing running."""
    if gateway.process is not None:
        gateway.process.kill()
        gateway.process.wait()
    for pid in gateway.processes():
        os.kill(pid, signal.SIGKILL)


def train_and_register(folder: Path, home: Path, names: Sequence[str]) -> None:
    """Train the demo's two digit models once and register them as versions 1 (dense) and 2 (conv) of each name."""
    subprocess.run([sys.executable, "-m", "deploy.demo.train", "--output", str(folder)], check=True, timeout=600)
    gateway = Gateway(home)
    for name in names:
        for kind in ("dense", "conv"):
            extra = [
                "--samples",
                str(folder / f"{kind}.samples.npz"),
                "--lineage",
                str(folder / f"{kind}.lineage.json"),
            ]
            gateway.must("register", name, str(folder / kind), *extra, timeout=600)
