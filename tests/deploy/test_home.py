"""One home, one gateway, private directories, and sockets that fit however deep the home lies."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import Conflict, Unavailable
from deploy.home import SOCKET_NAME_MAX, SOCKET_PATH_MAX, Gateway, Home


def test_everything_in_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    for directory in (home.path, home.packages, home.staging, home.logs, home.run, home.predictions):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_second_gateway_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with (
        Home(tmp_path).gateway_lock(),
        pytest.raises(Conflict, match=rf"already runs.*pid {os.getpid()}"),
        Home(tmp_path).gateway_lock(),
    ):
        pass
    with Home(tmp_path).gateway_lock():
        pass


def test_a_gateway_that_was_killed_neither_holds_the_home_nor_counts_as_running(tmp_path: Path) -> None:
    code = (
        "import os, sys; from deploy.home import Gateway, Home\n"
        "home = Home(sys.argv[1])\n"
        "with home.gateway_lock():\n"
        "    home.announce(Gateway(os.getpid(), 1, 2, 3.0)); os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    assert killed.returncode == -9
    home = Home(tmp_path)
    assert (home.run / "gateway.json").exists()
    assert home.gateway() is None
    with home.gateway_lock():
        home.announce(Gateway(os.getpid(), 8080, 8090, 1.5))
        assert Home(tmp_path).gateway() == Gateway(os.getpid(), 8080, 8090, 1.5)
        home.withdraw()
        assert home.gateway() is None


def test_a_gateway_file_nobody_can_read_counts_as_no_gateway(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.gateway_lock():
        for text in ("", "{", "[]", '{"pid": 1}'):
            (home.run / "gateway.json").write_text(text)
            assert home.gateway() is None


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory with a short path, as machines have one."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as made:
        yield Path(made)


def deep(path: Path) -> Path:
    return path / ("d" * 100) / "home"


def test_sockets_of_a_deep_home_fit_and_are_found_again(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))
    home = Home(deep(tmp_path))
    assert home.sockets.parent == short
    assert len(os.fsencode(home.sockets)) + 1 + SOCKET_NAME_MAX <= SOCKET_PATH_MAX
    with home.gateway_lock():
        assert home.sockets.stat().st_mode & 0o777 == 0o700
        (home.sockets / "w-1.sock").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    again = Home(deep(tmp_path))
    assert again.sockets == home.sockets, "another TMPDIR must not lose the running processes"
    (home.sockets / "w-1.sock").unlink()
    with again.gateway_lock():
        pass
    assert not home.sockets.exists(), "an empty one is not left behind"


def test_a_temporary_directory_that_is_deep_itself_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(deep(tmp_path)))
    assert Home(deep(tmp_path)).sockets.parent == Path("/tmp")


def test_a_copied_home_does_not_share_the_sockets_of_its_original(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))
    original = Home(deep(tmp_path))
    with original.gateway_lock():
        copied = Home(shutil.copytree(original.path, original.path.with_name("copy")))
    assert copied.sockets != original.sockets


def test_a_socket_directory_that_others_may_enter_is_refused(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))
    home = Home(deep(tmp_path))
    home.sockets.mkdir(mode=0o700)
    home.sockets.chmod(0o777)
    with pytest.raises(Unavailable, match="open to others"), home.gateway_lock():
        pass
    home.sockets.rmdir()
    home.sockets.symlink_to(tmp_path)
    with pytest.raises(Unavailable, match="somebody else"), home.gateway_lock():
        pass


def test_a_home_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="--home"):
        Home(tmp_path / "file")
