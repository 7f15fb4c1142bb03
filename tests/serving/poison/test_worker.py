"""A real worker, a model that really kills it, and the worker that comes after."""

import signal
from pathlib import Path

import httpx
import pytest

from contracts.worker import PATH_WORKER
from tests.serving.packages import Package
from tests.serving.poison.killer import DEADLY, only_where_it_kills
from tests.serving.process import RunningWorker, wait_for, worker


def ask(one: RunningWorker, *values: int, **headers: str) -> int:
    return one.predict({"instances": [[v] for v in values]}, headers=headers).status_code


@only_where_it_kills
def test_what_killed_a_worker_kills_no_successor_and_is_refused_by_it(killer: Package, tmp_path: Path) -> None:
    quarantine = tmp_path / "quarantine"
    with worker(killer, tmp_path, quarantine=str(quarantine)) as first:
        assert ask(first, 1) == 200
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
            ask(first, 3, DEADLY)
        assert first.process.wait(10) == -signal.SIGFPE
    with worker(killer, tmp_path, quarantine=str(quarantine)) as second:
        pid = second.http.get(PATH_WORKER).json()["pid"]
        answer = second.predict({"instances": [[3], [DEADLY]]})
        assert answer.status_code == 422
        assert "made the model's process die" in answer.json()["error"]
        assert ask(second, 1) == ask(second, 3) == ask(second, 3, DEADLY + 1) == 200
        assert second.http.get(PATH_WORKER).json()["pid"] == pid
        assert second.stop() == 0
    assert not list(quarantine.glob("*.journal"))


@only_where_it_kills
def test_a_request_that_another_worker_died_of_is_tried_alone(killer: Package, tmp_path: Path) -> None:
    with worker(killer, tmp_path) as alone:
        assert ask(alone, DEADLY, **{"x-envoy-attempt-count": "2"}) == 422
        assert ask(alone, 5, **{"x-envoy-attempt-count": "2"}) == 200
        assert ask(alone, DEADLY) == 422
        assert alone.process.poll() is None


@only_where_it_kills
def test_a_worker_that_is_killed_takes_its_scratch_process_with_it(killer: Package, tmp_path: Path) -> None:
    with worker(killer, tmp_path) as alone:
        assert ask(alone, 5, **{"x-envoy-attempt-count": "2"}) == 200
        assert scratch_processes(killer) == 1
        alone.stop(signal.SIGKILL)
        wait_for(lambda: scratch_processes(killer) == 0, "rid of the scratch process")


def scratch_processes(package: Package) -> int:
    found = 0
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        found += b"scratch_process" in words and str(package.root).encode() in words
    return found
