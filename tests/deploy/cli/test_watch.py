"""`teal status --watch` into a pipe: a state when it changes, and a clean end with Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.cli.fake_gateway import FakeGateway


@contextmanager
def watching(home: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "deploy.cli.main", "status", *words, "--watch", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_state(process: "subprocess.Popen[str]") -> dict[str, object]:
    """The next JSON value of the stream; blocks until it is whole."""
    text = ""
    for line in process.stdout or ():
        text += line
        if line.rstrip() == "}":
            found: dict[str, object] = json.loads(text)
            return found
    raise AssertionError(f"the watch ended: {process.stderr.read() if process.stderr else ''}")


def test_a_watch_writes_each_new_state_and_ends_with_0_on_ctrl_c(home: Path, gateway: FakeGateway) -> None:
    gateway.live = 1
    with watching(home, "digits", "--json") as process:
        assert read_state(process)["candidate"] is None
        gateway.candidate = 2
        assert read_state(process)["candidate"] is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_watch_on_an_unknown_model_ends_at_once(home: Path, gateway: FakeGateway) -> None:
    with watching(home, "cats") as process:
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert "cats" in process.stderr.read()
