"""Loading at low priority: when a worker may, and that nothing of it is left once it is ready."""

import os
import resource
import signal
from pathlib import Path

import pytest

from serving.priority import may_come_back
from tests.serving.packages import Package
from tests.serving.process import wait_for, worker

SYS_NICE = 1 << 23
LOWEST = 19


@pytest.mark.parametrize(
    ("capabilities", "limit", "nice", "may"),
    [
        (SYS_NICE, 0, 0, True),
        (0, 0, 0, False),
        (~SYS_NICE & 0xFFFFFFFF, 0, 0, False),  # root in a container that was not given this one
        (0, 20, 0, True),
        (0, 19, 0, False),
        (0, 15, 5, True),
        (0, 20, -5, False),
        (0, resource.RLIM_INFINITY, -20, True),
    ],
)
def test_who_may_come_back_to_a_nice_value(capabilities: int, limit: int, nice: int, may: bool) -> None:
    assert may_come_back(capabilities, limit, nice) is may


def nice_of_threads(pid: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()}


def session_of(pid: int) -> str:
    """`nice 0`, or nothing where the kernel does not group by session."""
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().partition(" ")[2].strip() if path.exists() else ""


@pytest.mark.tensorflow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a worker that may raise its priority again")
def test_a_gentle_worker_loads_at_the_lowest_priority_and_serves_with_every_thread_at_the_usual_one(
    litert: Package, tmp_path: Path
) -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with worker(litert, tmp_path, gentle=True, threads=2, ready=False, session=True) as running:
        pid = running.process.pid
        wait_for(lambda: LOWEST in nice_of_threads(pid), "at low priority")
        os.kill(pid, signal.SIGSTOP)  # looked at as long as it takes
        assert nice_of_threads(pid) == {LOWEST}
        assert session_of(pid) in ("nice 19", "")
        os.kill(pid, signal.SIGCONT)
        running.wait_ready()
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
        assert nice_of_threads(pid) == {usual}
        assert session_of(pid) in ("nice 0", "")


@pytest.mark.tensorflow
def test_a_worker_that_nobody_asked_to_be_gentle_never_lowers_its_priority(litert: Package, tmp_path: Path) -> None:
    with worker(litert, tmp_path) as running:
        assert nice_of_threads(running.process.pid) == {os.getpriority(os.PRIO_PROCESS, 0)}
        assert "priority" not in running.log
