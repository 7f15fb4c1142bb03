"""`teal demo --exit` for real: TensorFlow trains, Envoy routes, workers answer, and nothing is left behind."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway import Gateway, eventually, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.tensorflow]

DEMO_SECONDS = 400


def command(home: Path, *words: str) -> list[str]:
    ports = ["--port", str(free_port()), "--admin-port", str(free_port())]
    return [sys.executable, "-m", "deploy.cli.main", "demo", "--home", str(home), *ports, *words]


def test_the_demo_runs_twice_on_one_home_and_then_stays_up_until_it_is_told_to_stop(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = subprocess.run(command(home, "--exit"), capture_output=True, text=True, timeout=DEMO_SECONDS, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0 failed" in first.stdout
    assert "version 2 is live" in first.stdout
    assert "errors of the candidate are worse" in first.stdout
    assert "images saw an error" in first.stdout
    assert not Gateway(home).processes()

    with subprocess.Popen(command(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as second:
        try:
            said = ""
            for line in second.stdout or ():
                said += line
                if "how they were made and measured" in line:  # the last line of the invitation
                    break
            assert "are registered already" in said, said
            _paste(next(line for line in said.splitlines() if line.startswith("curl ")))
            live = Gateway(home).must("status", "digits")["live"]
            assert (live["version"], live["weight"]) == (2, 100)
            second.send_signal(signal.SIGINT)
            assert second.wait(120) == 0
        finally:
            second.kill()
    eventually("no process of the demo is left", lambda: not Gateway(home).processes(), 10)


def _paste(line: str) -> None:
    """The line the demo shows, as a person would paste it."""
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed; make test installs it")
    answer = subprocess.run(shlex.split(line), capture_output=True, timeout=30, check=True)
    assert len(json.loads(answer.stdout)["predictions"][0]) == 10
