"""The batcher and its guard: who is in the engine is always named, and who is suspected never gets in."""

import asyncio

import numpy as np
import pytest

from serving.batching.ports import Unguarded
from serving.batching.tickets import Outputs
from serving.poison.marks import mark
from tests.serving.batching.bench import AT_ONCE, IN_THREAD, ON_LOOP, Bench, settle, values
from tests.serving.engines import HALF_PLUS_TWO, identity


def name(*numbers: float) -> int:
    return mark(HALF_PLUS_TWO.name, {"x": np.array(numbers, np.float32)})


class Notebook(Unguarded):
    """Writes down what it is told, suspects whom a test names, and answers suspects with -1."""

    def __init__(self, *suspected: int, dead_elsewhere: int = 0) -> None:
        self.watching = bool(suspected)
        self.suspected = suspected
        self.dead_elsewhere = dead_elsewhere
        self.inside: list[list[int]] = []
        self.now: list[int] = []

    def begin(self, marks: list[int]) -> None:
        assert self.now == []
        self.now = marks
        self.inside.append(marks)

    def end(self) -> None:
        self.now = []

    def suspects(self, mark: int) -> bool:
        return mark in self.suspected

    def suspects_retried(self, mark: int) -> bool:
        return mark == self.dead_elsewhere

    def examine(self, signature: str, inputs: Outputs, mark: int, deadline: float) -> "asyncio.Future[Outputs]":
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        answer.set_result({"y": np.array([-1.0])})
        return answer


@pytest.mark.parametrize("cost", [ON_LOOP, IN_THREAD])
def test_every_request_of_a_run_is_named_before_it_and_nobody_after_it(cost: float) -> None:
    guard = Notebook()

    async def story() -> None:
        async with Bench(identity(poison=3), cost=cost, guard=guard) as bench:
            for number in (1, 2, 3):
                bench.send(number).add_done_callback(lambda done: done.exception())
            await bench.run()
            assert guard.inside[0] == [name(1), name(2), name(3)]
            assert [name(3)] in guard.inside, "the search is a run, too"
            assert guard.now == []

    asyncio.run(story())


def test_what_is_computed_at_once_is_named_as_well() -> None:
    guard = Notebook()

    async def story() -> None:
        async with Bench(identity(), cost=AT_ONCE, guard=guard) as bench:
            bench.batcher.compute_now(HALF_PLUS_TWO, {"x": bench.rows(4)}, 1, bench.clock.monotonic() + 1)
            assert guard.inside == [[name(4)]]
            assert guard.now == []

    asyncio.run(story())


def test_a_run_that_hangs_goes_on_being_named_when_everybody_has_given_it_up() -> None:
    guard = Notebook()

    async def story() -> None:
        async with Bench(identity(), guard=guard) as bench:
            bench.send(1, seconds=5)
            await settle()
            await bench.advance(31)
            assert bench.hangs == 1
        assert guard.now == [name(1)]

    asyncio.run(story())


def test_a_suspect_is_answered_from_elsewhere_and_never_enters_the_engine() -> None:
    guard = Notebook(name(6), dead_elsewhere=name(7))

    async def story() -> None:
        async with Bench(identity(), cost=AT_ONCE, guard=guard) as bench:
            end = bench.clock.monotonic() + 10
            assert bench.batcher.compute_now(HALF_PLUS_TWO, {"x": bench.rows(6)}, 1, end) is None
            assert values(bench.send(6)) == [-1]
            retried = [bench.batcher.submit(HALF_PLUS_TWO, {"x": bench.rows(n)}, 1, end, retried=True) for n in (5, 7)]
            await bench.run()
            assert [values(one) for one in retried] == [[5], [-1]]
            assert guard.inside == [[name(5)]]

    asyncio.run(story())
