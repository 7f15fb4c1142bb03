"""Any interleaving of arrivals, departures, deadlines and failures: everybody is answered once, with their own rows."""

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DeadlineExceeded, Internal, Overloaded, Unavailable
from serving.batching.tickets import Outputs
from tests.serving.batching.bench import AT_ONCE, IN_THREAD, ON_LOOP, Bench, settle, values
from tests.serving.engines import identity

POISON = -1.0


@dataclass(frozen=True)
class Arrive:
    rows: int
    seconds: float
    poisoned: bool


@dataclass(frozen=True)
class Leave:
    who: int


@dataclass(frozen=True)
class Pass:
    seconds: float


@dataclass(frozen=True)
class Run:
    runs: int


@dataclass(frozen=True)
class Break:
    rows: int


_PATIENCE = st.sampled_from([0.01, 0.5, 5.0, 29.0])
_ONE_IN_TEN = st.integers(0, 9).map(lambda n: n == 0)
STEPS = st.lists(
    st.one_of(
        st.builds(Arrive, st.integers(1, 20), _PATIENCE, _ONE_IN_TEN),
        st.builds(Leave, st.integers(0, 30)),
        st.builds(Pass, st.sampled_from([0.001, 0.02, 1.0])),
        st.builds(Run, st.integers(1, 4)),
        st.builds(Break, st.sampled_from([0, 0, 1])),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, cost=st.sampled_from([AT_ONCE, ON_LOOP, IN_THREAD]), close_early=st.booleans())
def test_every_caller_is_answered_exactly_once_with_their_own_rows(
    steps: list[object], cost: float, close_early: bool
) -> None:
    asyncio.run(_story(steps, cost, close_early))


async def _story(steps: list[object], cost: float, close_early: bool) -> None:
    loop_errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    async with Bench(identity(poison=POISON), cost=cost, buckets=(1, 2, 4, 8)) as bench:
        crowd = Crowd(bench)
        for step in steps:
            await crowd.follow(step)
        bench.engine.broken_rows = 0
        if close_early:
            await bench.batcher.close()
        else:
            await bench.run()
        await settle()
        crowd.check()
        assert bench.batcher.queued_rows == 0
    assert loop_errors == []


class Crowd:
    """Everybody who ever sent something, with what they may be answered."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.sent: list[tuple[asyncio.Future[Outputs], list[float], bool]] = []
        self.answers: list[int] = []
        self.tag = 0.0

    async def follow(self, step: object) -> None:
        match step:
            case Arrive():
                self.arrive(step)
            case Leave(who) if self.sent:
                self.sent[who % len(self.sent)][0].cancel()
            case Pass(seconds):
                await self.bench.advance(seconds)
            case Run(runs):
                await self.bench.run(runs)
            case Break(rows):
                self.bench.engine.broken_rows = rows

    def arrive(self, step: Arrive) -> None:
        own = [self.tag + i for i in range(step.rows)]
        self.tag += step.rows
        try:
            future = self.bench.send(*([POISON, *own[1:]] if step.poisoned else own), seconds=step.seconds)
        except Overloaded:
            return  # that is an answer, too
        number = len(self.sent)
        self.answers.append(0)
        future.add_done_callback(lambda _: self.count(number))
        self.sent.append((future, own, step.poisoned))

    def count(self, number: int) -> None:
        self.answers[number] += 1

    def check(self) -> None:
        assert self.answers == [1] * len(self.sent), "somebody was left waiting or answered twice"
        for future, own, poisoned in self.sent:
            if future.cancelled():
                continue
            if (error := future.exception()) is None:
                assert not poisoned
                assert values(future) == own
            else:
                assert isinstance(error, DeadlineExceeded | Internal | Unavailable)
