"""From suspicion to answer or conviction, with a scratch engine that dies when a test says so."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import DeadlineExceeded, Internal, Overloaded, Quarantined, Unavailable
from serving.engine.base import Array, Tensors
from serving.engine.scratch import ProcessDied, ScratchUnavailable
from serving.poison.guard import POLL_SECONDS, Guard
from serving.poison.journal import Journal
from serving.poison.marks import mark
from serving.poison.records import QUARANTINE_SECONDS, SUSPECT_SECONDS, Records
from tests.fakes.clock import HandClock
from tests.serving.batching.bench import settle
from tests.serving.engines import HandExecutor

INNOCENT, POISON = {"x": np.array([1.0])}, {"x": np.array([6.66])}


class FakeScratch:
    """Echoes, unless the next ending that a test has ordered is another one."""

    def __init__(self) -> None:
        self.endings: list[Exception] = []
        self.runs: list[float] = []
        self.running = False

    def run(self, signature: str, inputs: Tensors, seconds: float) -> dict[str, Array]:
        self.running = True
        self.runs.append(float(inputs["x"][0]))
        if self.endings:
            raise self.endings.pop(0)
        return {"y": inputs["x"]}

    def close(self) -> None:
        self.running = False


class Bench:
    def __init__(self, folder: Path | None) -> None:
        self.clock = HandClock()
        self.scratch = FakeScratch()
        self.executor = HandExecutor()
        self.folder = folder
        self.guard = self.make(folder)

    def make(self, folder: Path | None) -> Guard:
        journal = Journal(folder, 8) if folder is not None else None
        return Guard(
            scratch=self.scratch,
            executor=self.executor,
            journal=journal,
            records=Records(folder),
            clock=self.clock,
        )

    def accuse(self, *inputs: Tensors) -> None:
        """A worker died with these inside."""
        Records(self.folder).suspect([mark("s", one) for one in inputs], self.clock.wall())
        self.guard.look()

    def suspects(self, inputs: Tensors) -> bool:
        return self.guard.watching and self.guard.suspects(mark("s", inputs))

    def examine(self, inputs: dict[str, Array], seconds: float = 10.0) -> "asyncio.Future[dict[str, Array]]":
        return self.guard.examine("s", inputs, mark("s", inputs), self.clock.monotonic() + seconds)

    async def run(self) -> None:
        await settle()
        while self.executor.waiting:
            self.executor.run_one()
            await settle()


def told(story: Callable[[Bench], Coroutine[Any, Any, None]], folder: Path | None) -> None:
    async def whole() -> None:
        bench = Bench(folder)
        bench.guard.start()
        try:
            await story(bench)
        finally:
            await bench.guard.close()

    asyncio.run(whole())


def test_a_suspect_that_survives_is_answered_and_free(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(INNOCENT)
        assert bench.suspects(INNOCENT)
        assert not bench.suspects(POISON)
        answer = bench.examine(INNOCENT)
        await bench.run()
        assert answer.result()["y"].tolist() == [1.0]
        assert not bench.suspects(INNOCENT)
        assert not bench.guard.watching

    told(story, tmp_path)


def test_a_suspect_that_ends_the_process_is_refused_by_every_worker_until_its_time_is_over(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        sibling = bench.make(tmp_path)
        bench.accuse(POISON, INNOCENT)
        bench.scratch.endings = [ProcessDied("was killed by SIGSEGV", signal.SIGSEGV)]
        convict, other = bench.examine(POISON), bench.examine(INNOCENT)
        await bench.run()
        with pytest.raises(Quarantined, match=r"made the model's process die; it is refused until 20\d\d-"):
            convict.result()
        assert other.result()["y"].tolist() == [1.0]
        sibling.look()
        assert sibling.suspects(mark("s", POISON))
        with pytest.raises(Quarantined):
            sibling.examine("s", POISON, mark("s", POISON), 10.0)
        await sibling.close()
        bench.clock.move(QUARANTINE_SECONDS + 1)
        bench.guard.look()
        again = bench.examine(POISON)  # tried again, and never in the serving process
        bench.scratch.endings = [ProcessDied("was killed by SIGSEGV", signal.SIGSEGV)]
        await bench.run()
        assert isinstance(again.exception(), Quarantined)
        bench.clock.move(QUARANTINE_SECONDS + SUSPECT_SECONDS + 1)
        bench.guard.look()
        assert not bench.guard.watching

    told(story, tmp_path)


def test_the_same_deadly_input_twice_in_the_queue_ends_one_process_only(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(POISON)
        bench.scratch.endings = [ProcessDied("was killed by SIGSEGV", signal.SIGSEGV)]
        answers = [bench.examine(POISON) for _ in range(3)]
        await bench.run()
        assert all(isinstance(answer.exception(), Quarantined) for answer in answers)
        assert len(bench.scratch.runs) == 1

    told(story, tmp_path)


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_process_killed_from_outside_convicts_nobody_unless_it_happens_twice(tmp_path: Path, deaths: int) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(INNOCENT)
        bench.scratch.endings = [ProcessDied("was killed by SIGKILL", signal.SIGKILL)] * deaths
        answer = bench.examine(INNOCENT)
        await bench.run()
        assert isinstance(answer.exception(), Quarantined) == (deaths == 2)
        assert bench.scratch.runs == [1.0, 1.0]

    told(story, tmp_path)


@pytest.mark.parametrize(
    ("ending", "expected", "free"),
    [
        (RuntimeError("bad row in /secret"), Internal, True),
        (TimeoutError(), DeadlineExceeded, False),
        (ScratchUnavailable("no memory"), Unavailable, False),
    ],
)
def test_what_happens_alone_decides_what_the_caller_hears_and_whether_the_suspicion_stays(
    tmp_path: Path, ending: Exception, expected: type[Exception], free: bool
) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(POISON)
        bench.scratch.endings = [ending]
        answer = bench.examine(POISON)
        await bench.run()
        assert isinstance(answer.exception(), expected)
        assert "secret" not in str(answer.exception())
        assert bench.suspects(POISON) is not free

    told(story, tmp_path)


def test_a_trial_that_takes_longer_than_its_caller_has_is_seen_to_its_end(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(POISON)
        bench.scratch.endings = [ProcessDied("was killed by SIGSEGV", signal.SIGSEGV)]
        late, gone = bench.examine(POISON, seconds=1.0), bench.examine(INNOCENT)
        gone.cancel()
        await settle()
        bench.clock.move(2.0)
        await settle()
        assert isinstance(late.exception(), DeadlineExceeded)
        await bench.run()
        assert bench.scratch.runs == [6.66]
        with pytest.raises(Quarantined):
            bench.examine(POISON)

    told(story, tmp_path)


def test_the_queue_of_trials_is_bounded_and_closing_answers_everybody(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(INNOCENT)
        answers = [bench.examine(INNOCENT) for _ in range(256)]
        with pytest.raises(Overloaded):
            bench.examine(INNOCENT)
        await settle()
        await bench.guard.close()
        assert all(isinstance(answer.exception(), Unavailable) for answer in answers)
        bench.guard = bench.make(tmp_path)

    told(story, tmp_path)


def test_a_dead_siblings_run_is_noticed_within_a_second_and_a_tried_request_at_once(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        dying = Journal(tmp_path, 8)
        dying.begin([mark("s", POISON)])
        # It is not dead yet, as far as anybody can tell, and Envoy has sent its request on already.
        assert bench.guard.suspects_retried(mark("s", POISON))
        assert not bench.guard.suspects_retried(mark("s", INNOCENT))
        dying.begin([mark("s", INNOCENT)])
        dying.close(peaceful=False)
        await settle()
        bench.clock.move(POLL_SECONDS)
        await settle()
        assert bench.suspects(INNOCENT)

    told(story, tmp_path)
    assert not list(tmp_path.glob("*.journal"))


def test_without_a_folder_to_share_whatever_was_tried_elsewhere_is_tried_alone() -> None:
    async def story(bench: Bench) -> None:
        assert bench.guard.suspects_retried(mark("s", INNOCENT))
        bench.scratch.endings = [ProcessDied("was killed by SIGSEGV", signal.SIGSEGV)]
        answer = bench.examine(POISON)
        await bench.run()
        assert isinstance(answer.exception(), Quarantined)
        assert bench.suspects(POISON)

    told(story, None)


def test_an_idle_scratch_process_is_let_go(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.accuse(INNOCENT)
        bench.examine(INNOCENT)
        await bench.run()
        for _ in range(70):
            await settle()
            bench.clock.move(POLL_SECONDS)
            await bench.run()
        assert not bench.scratch.running

    told(story, tmp_path)


def test_a_folder_that_takes_nothing_leaves_the_verdict_in_this_process(tmp_path: Path) -> None:
    records = Records(tmp_path / "missing")
    records.suspect([5], now=0.0)
    until = records.convict(5, "ab" * 32, now=0.0)
    records.refresh(now=1.0)
    assert records.known.convicted == {"ab" * 32: until}
    assert set(records.known.suspects) == {5}
    records.acquit(5, now=1.0)
    assert set(records.known.suspects) == {5}, "a convict's mark is not acquitted by somebody who shares it"
