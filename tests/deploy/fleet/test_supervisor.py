"""The life of one supervised process, told with a process made of nothing and a clock that the test moves."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from contracts.clock import Clock
from deploy.fleet.backoff import RestartRules
from deploy.fleet.health import Answer
from deploy.fleet.process import Exit
from deploy.fleet.supervisor import Care, Subject, Supervisor
from deploy.ports import WorkerState
from tests.deploy.fleet.clock import SteppingClock, settle

STARTING, READY, DRAINING = WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING
WAITING, BROKEN = WorkerState.WAITING, WorkerState.BROKEN


class FakeProcess:
    """Lives until it is told to end. Deaf ones only hear SIGKILL."""

    def __init__(self, pid: int, deaf: bool = False) -> None:
        self.pid = pid
        self.log_start = 0
        self.released = False
        self._deaf = deaf
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def end(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(Exit(code))

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def stop(self, grace: float, clock: Clock) -> Exit:
        if self._deaf:
            await clock.sleep(grace)
            return await self.kill(clock)
        self.end(0)
        return await self.wait()

    async def kill(self, clock: Clock) -> Exit:
        self.end(-signal.SIGKILL)
        return await self.wait()

    def release(self) -> None:
        self.released = True


@dataclass
class Stage:
    """One supervisor with everything it is given. `answer` is what the process says when asked."""

    clock: SteppingClock
    log: Path
    answer: Answer = Answer.READY
    processes: list[FakeProcess] = field(default_factory=list)
    deaf: bool = False
    launch_error: OSError | None = None
    probe_error: Exception | None = None
    drain: Callable[[], Awaitable[None]] | None = None
    gone: int = 0
    told: int = 0

    def open(self, rules: RestartRules | None = None) -> Supervisor:
        subject = Subject("worker digits/2", self.log, self._launch, self._probe, self.drain, self._gone)  # type: ignore[arg-type]
        care = Care(self.clock, Random(1), self._tell, grace=35.0, restarts=rules or RestartRules(jitter=0.0))
        return Supervisor(subject, care)

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]

    def _launch(self) -> FakeProcess:
        if self.launch_error is not None:
            raise self.launch_error
        self.processes.append(FakeProcess(100 + len(self.processes), self.deaf))
        return self.process

    @asynccontextmanager
    async def _probe(self) -> AsyncIterator[Callable[[], Awaitable[Answer]]]:
        async def ask() -> Answer:
            if self.probe_error is not None:
                raise self.probe_error
            if self.answer is Answer.SILENT:
                await self.clock.sleep(1.0)
            return self.answer

        yield ask

    def _gone(self) -> None:
        self.gone += 1

    def _tell(self) -> None:
        self.told += 1


def play(tmp_path: Path, story: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story(Stage(SteppingClock(), tmp_path / "worker.log"))

    asyncio.run(whole())


def test_it_starts_gets_ready_and_drains_when_asked(tmp_path: Path):
    async def story(stage: Stage) -> None:
        stage.answer = Answer.NOT_READY
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(1)
        assert (supervisor.state, supervisor.pid) == (STARTING, 100)
        stage.answer = Answer.READY
        await stage.clock.advance(0.1)
        assert supervisor.state is READY
        supervisor.leave()
        assert supervisor.state is DRAINING
        await run
        assert (supervisor.pid, stage.gone, len(stage.processes)) == (None, 1, 1)

    play(tmp_path, story)


def test_a_death_waits_and_starts_again_with_its_last_words_as_the_reason(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(1)
        stage.log.write_text("Traceback\nMemoryError: no room\n")
        stage.process.end(1)
        await settle()
        assert supervisor.state is WAITING
        assert supervisor.pid is None
        assert supervisor.reason == (
            "worker digits/2 exited with code 1: MemoryError: no room; starting again in 0.2 s"
        )
        await stage.clock.advance(0.3)
        assert (supervisor.state, supervisor.restarts, supervisor.pid) == (READY, 1, 101)
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_stopped_process_loses_traffic_within_three_seconds_and_gets_it_back(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(5.5)
        stage.answer = Answer.SILENT
        await stage.clock.advance(3)
        assert supervisor.state is STARTING
        assert "no answer to 2 health checks" in supervisor.reason
        stage.answer = Answer.READY
        await stage.clock.advance(2)
        assert (supervisor.state, supervisor.restarts) == (READY, 0)
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_process_that_stays_silent_is_replaced(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(5)
        stage.answer = Answer.SILENT
        await stage.clock.advance(29)
        assert len(stage.processes) == 1
        await stage.clock.advance(3)
        stage.answer = Answer.READY
        await stage.clock.advance(2)
        assert (supervisor.state, supervisor.pid) == (READY, 101)
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_crash_loop_ends_broken_and_a_retry_starts_over(tmp_path: Path):
    async def story(stage: Stage) -> None:
        stage.answer = Answer.NOT_READY
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        for _ in range(5):
            await settle()
            stage.process.end(1)
            await stage.clock.advance(5)
        assert supervisor.state is BROKEN
        assert "died 5 times" in supervisor.reason
        await stage.clock.advance(10_000)
        assert len(stage.processes) == 5
        stage.answer = Answer.READY
        assert supervisor.retry()
        await stage.clock.advance(0.1)
        assert (supervisor.state, supervisor.restarts) == (READY, 5)
        assert not supervisor.retry()
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_package_that_does_not_load_is_broken_at_once(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await settle()
        stage.process.end(3)
        await settle()
        assert supervisor.state is BROKEN
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_leaving_ends_a_wait_and_a_broken_state_at_once(tmp_path: Path):
    async def story(stage: Stage) -> None:
        for code, state in ((1, WAITING), (3, BROKEN)):
            supervisor = stage.open()
            run = asyncio.create_task(supervisor.run())
            await settle()
            stage.process.end(code)
            await settle()
            assert supervisor.state is state
            supervisor.leave()
            await settle()
            assert run.done()

    play(tmp_path, story)


def test_a_process_that_cannot_even_be_started_counts_as_dead(tmp_path: Path):
    async def story(stage: Stage) -> None:
        stage.launch_error = OSError(24, "Too many open files")
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await settle()
        assert supervisor.state is WAITING
        assert "could not be started: [Errno 24] Too many open files" in supervisor.reason
        stage.launch_error = None
        await stage.clock.advance(1)
        assert supervisor.state is READY
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_mistake_in_watching_ends_the_process_and_is_said_not_swallowed(tmp_path: Path, caplog: object):
    async def story(stage: Stage) -> None:
        stage.probe_error = RuntimeError("bug")
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await settle()
        assert supervisor.state is WAITING
        assert "watching it failed: RuntimeError('bug')" in supervisor.reason
        assert await stage.process.wait() == Exit(-9)
        stage.probe_error = None
        await stage.clock.advance(1)
        assert supervisor.state is READY
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_letting_go_leaves_the_process_running(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(1)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert stage.process.released
        assert stage.gone == 0
        assert (await asyncio.gather(asyncio.wait_for(stage.process.wait(), 0.01), return_exceptions=True)) != [Exit(0)]

    play(tmp_path, story)


def test_an_adopted_process_is_settled_by_its_first_answer_or_by_two_silences(tmp_path: Path):
    async def story(stage: Stage) -> None:
        for answer, state in ((Answer.READY, READY), (Answer.NOT_READY, STARTING), (Answer.SILENT, STARTING)):
            stage.answer = answer
            supervisor, process = stage.open(), FakeProcess(7)
            run = asyncio.create_task(supervisor.run(process, age=1000.0))  # type: ignore[arg-type]
            settled = asyncio.create_task(supervisor.settled())
            await stage.clock.advance(2.2)
            assert settled.done()
            assert (supervisor.state, supervisor.pid) == (state, 7)
            supervisor.leave()
            await run

    play(tmp_path, story)


def test_an_adopted_process_that_dies_is_started_again(tmp_path: Path):
    async def story(stage: Stage) -> None:
        supervisor, process = stage.open(), FakeProcess(7)
        run = asyncio.create_task(supervisor.run(process))  # type: ignore[arg-type]
        await settle()
        process.end(-9)
        await stage.clock.advance(0.5)
        assert (supervisor.state, supervisor.pid, supervisor.restarts) == (READY, 100, 1)
        supervisor.leave()
        await run

    play(tmp_path, story)


def test_a_drain_that_fails_does_not_keep_the_process(tmp_path: Path):
    async def fails() -> None:
        raise ConnectionError("admin socket gone")

    async def story(stage: Stage) -> None:
        stage.drain = fails
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(1)
        supervisor.leave()
        await run
        assert await stage.process.wait() == Exit(0)

    play(tmp_path, story)


def test_a_deaf_process_is_killed_after_the_grace(tmp_path: Path):
    async def story(stage: Stage) -> None:
        stage.deaf = True
        supervisor = stage.open()
        run = asyncio.create_task(supervisor.run())
        await stage.clock.advance(1)
        supervisor.leave()
        await stage.clock.advance(34)
        assert not run.done()
        await stage.clock.advance(2)
        assert run.done()
        assert await stage.process.wait() == Exit(-9)

    play(tmp_path, story)
