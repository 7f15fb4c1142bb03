"""The demo's own `teal up`: a child process in a session of its own, so that Ctrl-C reaches the demo alone and the
demo decides when the gateway drains."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from contracts.errors import Internal, Unavailable
from deploy.client import Client

START_SECONDS = 60.0
STOP_SECONDS = 90.0  # longer than the gateway itself takes for its longest drain
POLL_SECONDS = 0.05


def check_port_free(host: str, port: int, option: str) -> None:
    """Raise Unavailable naming the port and the option, before minutes of training are spent in vain."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"port {port} cannot be used ({error.strerror}); choose another with {option}, "
                "or stop the program that has it"
            ) from error


class GatewayProcess:
    """A running gateway. A context manager: entering waits until Envoy takes traffic, leaving drains and stops it."""

    def __init__(self, home: Path, port: int, admin_port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self._command = [
            *(sys.executable, "-m", "deploy.cli.main", "up", "--home", str(home)),
            *("--port", str(port), "--admin-port", str(admin_port)),
        ]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> int:
        """Return the exit code once the gateway ends by itself."""
        return self._running().wait()

    def stop(self) -> int:
        """Drain, stop, and return the exit code; called again it only returns it. Raises Internal when the gateway
        does not end."""
        process = self._running()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Internal(
                f"the gateway (pid {process.pid}) did not stop within {STOP_SECONDS:g} s; its log is {self.log}"
            ) from None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with Client(self.admin_url) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise Unavailable(f"the gateway did not start: {self._last_words()}")
                if client.healthy() and _is_ready(client):
                    return
                time.sleep(POLL_SECONDS)
        raise Unavailable(f"the gateway was not ready within {START_SECONDS:g} s; its log is {self.log}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise Internal("the gateway was never started")
        return self._process

    def _last_words(self) -> str:
        """The error sentence of `teal up`, else where to look."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), None)
        return said.removeprefix("error: ") if said else f"its log is {os.fspath(self.log)}"


def _is_ready(client: Client) -> bool:
    facts = client.overview()["gateway"]
    return facts is not None and facts["envoy"] == "ready"
