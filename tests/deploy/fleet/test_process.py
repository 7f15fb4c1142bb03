"""Real child processes: started apart from us, watched by pidfd, never mistaken for another."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from contracts.clock import SystemClock
from deploy.fleet.environment import child_environment
from deploy.fleet.process import Command, Exit, Process, attach, spawn
from deploy.fleet.procfs import Identity, marked_processes, process_stat
from tests.deploy.fleet.gear import eventually

CLOCK = SystemClock()


def command(tmp_path: Path, program: str, mark: str = "p1") -> Command:
    env = child_environment(os.environ, fleet=fleet(tmp_path), process=mark)
    return Command((sys.executable, "-c", program), env, tmp_path / "child.log", oom_score=300)


def fleet(tmp_path: Path) -> str:
    return f"test-{tmp_path}"


SLEEPER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def run(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_end_of_a_child_is_noticed_with_its_exit_code(tmp_path: Path, loop: object):
    async def story() -> None:
        assert await spawn(command(tmp_path, "raise SystemExit(3)")).wait() == Exit(3)
        killed = spawn(command(tmp_path, SLEEPER))
        os.kill(killed.pid, signal.SIGKILL)
        assert await killed.wait() == Exit(-9)
        assert process_stat(killed.pid) is None, "a zombie is left"

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(asyncio.wait_for(story(), 30))


def test_exits_read_as_sentences():
    assert [str(Exit(code)) for code in (0, 3, -9, -11, -64)] == [
        "exited with code 0",
        "exited with code 3",
        "was killed by SIGKILL",
        "was killed by SIGSEGV",
        "was killed by SIGRTMAX",
    ]
    assert "former control plane" in str(Exit(None))


def test_a_child_has_its_own_session_no_input_and_no_descriptors_of_ours(tmp_path: Path):
    async def story() -> None:
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        program = (
            "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '', "
            "sorted(os.listdir('/proc/self/fd')), os.getcwd())"
        )
        await spawn(command(tmp_path, program)).wait()
        os.close(reader)
        os.close(writer)

    run(story())
    own_session, no_input, *descriptors, folder = (tmp_path / "child.log").read_text().split()
    assert (own_session, no_input, folder) == ("True", "True", "/")
    assert len(descriptors) == 4  # the three standard ones, and the folder being listed


def test_stop_is_gentle_first_and_final_after_the_grace(tmp_path: Path):
    async def story() -> None:
        gentle = spawn(command(tmp_path, SLEEPER))
        assert await gentle.stop(20, CLOCK) == Exit(-15)
        deaf = spawn(command(tmp_path, DEAF))
        await eventually(lambda: "deaf" in (tmp_path / "child.log").read_text(), "it ignores SIGTERM")
        assert await deaf.stop(0.05, CLOCK) == Exit(-9)

    run(story())


def test_a_stopped_process_is_woken_so_that_it_can_end_gently(tmp_path: Path):
    async def story() -> None:
        stopped = spawn(command(tmp_path, SLEEPER))
        stopped.signal(signal.SIGSTOP)
        assert await stopped.stop(20, CLOCK) == Exit(-15)

    run(story())


def test_a_disk_that_takes_no_log_does_not_keep_a_process_from_starting(tmp_path: Path):
    (tmp_path / "file").write_text("in the way of a folder")

    async def story() -> None:
        without_log = replace(command(tmp_path, "print('x')"), log=tmp_path / "file" / "child.log")
        assert await spawn(without_log).wait() == Exit(0)

    run(story())


def test_signals_to_an_ended_process_reach_nobody(tmp_path: Path):
    async def story() -> None:
        ended = spawn(command(tmp_path, "pass"))
        await ended.wait()
        ended.signal(signal.SIGKILL)
        assert await ended.stop(1, CLOCK) == Exit(0)

    run(story())


def test_a_released_child_lives_on_and_can_be_attached_again(tmp_path: Path):
    async def story() -> None:
        first = spawn(command(tmp_path, SLEEPER))
        first.release()
        again = attach(first.identity, "p1")
        assert again is not None
        assert await again.stop(20, CLOCK) == Exit(-15)
        assert attach(first.identity, "p1") is None

    run(story())


def test_a_process_that_is_not_our_child_is_watched_too(tmp_path: Path):
    """The grandchild outlives its parent as a worker outlives its control plane."""
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])"

    async def story() -> None:
        await spawn(command(tmp_path, program)).wait()
        (found,) = marked_processes(fleet(tmp_path))
        orphan = attach(found.identity, "p1")
        assert orphan is not None
        assert await orphan.stop(20, CLOCK) == Exit(None)

    run(story())


def test_a_recycled_pid_is_never_taken_for_ours(tmp_path: Path):
    async def story() -> None:
        stranger = spawn(command(tmp_path, SLEEPER, mark="somebody else"))
        recycled = replace(stranger.identity, start_ticks=stranger.identity.start_ticks - 1)
        assert attach(recycled, "somebody else") is None
        assert attach(stranger.identity, "p1") is None
        assert attach(Identity(2**22 + 1, 1), "p1") is None
        assert process_stat(stranger.pid) is not None, "it was touched"
        await stranger.stop(20, CLOCK)

    run(story())


def test_a_program_that_does_not_exist_is_an_error_of_the_caller(tmp_path: Path):
    async def story() -> None:
        with pytest.raises(FileNotFoundError):
            spawn(replace(command(tmp_path, ""), argv=("/no/such/program",)))

    run(story())


def test_a_waiter_that_gives_up_disturbs_no_other(tmp_path: Path):
    async def story() -> None:
        process: Process = spawn(command(tmp_path, SLEEPER))
        impatient = asyncio.create_task(process.wait())
        patient = asyncio.create_task(process.wait())
        await asyncio.sleep(0)
        impatient.cancel()
        process.signal(signal.SIGTERM)
        assert await patient == Exit(-15)

    run(story())
