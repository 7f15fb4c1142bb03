"""What keeps a gateway from starting is one sentence, and touches nothing."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import Conflict, InvalidInput, Unavailable
from deploy import control
from deploy.home import Home
from deploy.settings import from_environment

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken() -> "socket.socket":
    """A port somebody listens on, in the way Envoy does it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return holder


def up(home: Path, port: int) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from deploy import control; control.run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
    words = [sys.executable, "-c", code, str(home), str(port), str(free_port())]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_an_operating_port_in_use_is_named(tmp_path: Path, taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    with taken, pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}: Address already in use.*--admin-port"):
        control.run(tmp_path, free_port(), port)


def test_a_predictions_port_in_use_is_named_before_envoy_would_share_it(tmp_path: Path, taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    with taken:
        ended = up(tmp_path, port)
    assert ended.returncode == 1
    assert f":{port}: Address already in use" in ended.stderr
    assert not (tmp_path / "run/gateway.json").exists()


def test_a_second_gateway_on_one_home_is_a_conflict(tmp_path: Path) -> None:
    with Home(tmp_path).gateway_lock(), pytest.raises(Conflict, match="already runs"):
        control.run(tmp_path, free_port(), free_port())


def test_a_prometheus_that_cannot_be_meant_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--prometheus: expected a URL such as http://127\.0\.0\.1:9090"):
        control.run(tmp_path, free_port(), free_port(), "localhost:9090")
    with pytest.raises(InvalidInput, match="TEAL_PROMETHEUS_URL"):
        from_environment({"TEAL_PROMETHEUS_URL": "localhost:9090"})


def test_a_damaged_state_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    Home(tmp_path).state.write_bytes(b"these are not the bytes of a database" * 200)
    ended = up(tmp_path, free_port())
    assert ended.returncode == 1
    assert "state.db is damaged" in ended.stderr


def test_the_environment_is_read_once_and_nonsense_in_it_refused() -> None:
    given = {"TEAL_HOST": "127.0.0.1", "TEAL_ADMIN_HOSTS": "teal.example, other", "TEAL_STATE_URL": "postgresql://x/y"}
    settings = from_environment(given)
    assert (settings.host, settings.admin_hosts) == ("127.0.0.1", ("teal.example", "other"))
    assert settings.state_url == "postgresql://x/y"
    assert from_environment({"TEAL_HOST": ""}).host == "0.0.0.0"
    assert from_environment({"TEAL_KEPT_ROLLOUTS": "3"}).kept_rollouts == 3
    with pytest.raises(InvalidInput, match="TEAL_KEPT_ROLLOUTS: expected 1 to 1000, got '0'"):
        from_environment({"TEAL_KEPT_ROLLOUTS": "0"})
    with pytest.raises(InvalidInput, match="TEAL_ADMIN_HOSTS"):
        from_environment({"TEAL_ADMIN_HOSTS": "*"})
