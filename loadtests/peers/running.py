"""Starts peers that `loadtests/peers/install` put into virtual environments of their own, one at a time."""

import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0


def installed(peer: str) -> Path | None:
    """The peer's environment, or None when it is not installed."""
    venv = ROOT / ".peers" / peer
    return venv if (venv / "bin" / "python").exists() else None


@contextmanager
def mlserver(venv: Path, model: Path, port: int, grpc_port: int, metrics_port: int) -> Iterator[str]:
    """MLServer with the LiteRT file at `model` as `digits`; yields its base URL."""
    folder = ROOT / "loadtests" / "peers" / "mlserver"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "PEER_MODEL": str(model),
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(grpc_port),
        "MLSERVER_METRICS_PORT": str(metrics_port),
    }
    url = f"http://127.0.0.1:{port}"
    command = [str(venv / "bin" / "mlserver"), "start", str(folder)]
    with serving(command, f"{url}/v2/models/digits/ready", environment):
        yield url


@contextmanager
def pytriton(venv: Path, model: Path, port: int, grpc_port: int, metrics_port: int, *, batching: bool) -> Iterator[str]:
    """Triton with the LiteRT file at `model` as `digits`, its dynamic batcher on or off; yields its base URL."""
    script = str(ROOT / "loadtests" / "peers" / "pytriton" / "serve.py")
    ports = [str(port), str(grpc_port), str(metrics_port)]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="pytriton-") as folder:  # it unpacks the whole server there
        command = [str(venv / "bin" / "python"), script, str(model), f"{folder}/workspace", *ports]
        environment = {"PATH": os.environ["PATH"], "HOME": folder}
        mode = "batching" if batching else "alone"
        with serving([*command, mode], f"{url}/v2/models/digits/ready", environment):
            yield url


@contextmanager
def serving(command: list[str], ready: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until the block ends; wait first until `ready` answers well."""
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(process, ready)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode} before it was ready")
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310
            return
        except OSError:  # nobody there yet, or an answer that says not yet
            pass
        time.sleep(0.1)
    raise RuntimeError(f"nothing answered at {url} within {START_SECONDS} s")
