"""When a batch waits for company, and when not."""

import asyncio
import random

import pytest

from serving.batching.curve import CostCurve
from serving.batching.waiting import Expectation, Returns, Wait, worth_waiting
from tests.serving.batching.bench import IN_THREAD, Bench
from tests.serving.engines import identity

PATIENT = 30.0


def curve(*seconds: float) -> CostCurve:
    made = CostCurve((1, 2, 4, 8))
    for bucket, value in zip(made.buckets, seconds, strict=True):
        made.learn(bucket, value)
    return made


FLAT = curve(0.010, 0.010, 0.010, 0.010)
LINEAR = curve(0.010, 0.020, 0.040, 0.080)


def test_a_run_that_costs_the_same_for_all_waits_for_those_who_are_about_to_come_back() -> None:
    assert worth_waiting(FLAT, 1, [Expectation(0.001, 7.0)], PATIENT) == Wait(0.001, 8)


@pytest.mark.parametrize(
    ("costs", "rows", "expected", "patience"),
    [
        (LINEAR, 1, Expectation(0.001, 7.0), PATIENT),  # sharing a run saves nothing
        (FLAT, 8, Expectation(0.001, 7.0), PATIENT),  # the batch is full
        (FLAT, 1, Expectation(0.001, 0.4), PATIENT),  # nobody in particular is expected
        (FLAT, 1, Expectation(0.016, 7.0), PATIENT),  # waiting idles longer than a run takes
        (FLAT, 1, Expectation(0.001, 7.0), 0.020),  # somebody's time would run out
    ],
)
def test_it_does_not_wait_where_that_saves_no_engine_time(
    costs: CostCurve, rows: int, expected: Expectation, patience: float
) -> None:
    assert worth_waiting(costs, rows, [expected], patience) is None


def test_callers_who_always_come_back_at_once_are_expected() -> None:
    returns, now = Returns(), 0.0
    for _ in range(100):
        returns.answered(now, 8)
        returns.arrived(now + 0.0004, 8)
        now += 0.010
    returns.answered(now, 8)
    assert [round(e.rows) for e in returns.expected(now) if e.seconds >= 0.0005][:1] == [8]
    returns.arrived(now + 0.0004, 8)
    assert not [e for e in returns.expected(now + 0.0005) if e.rows >= 1], "they are all back"


@pytest.mark.parametrize("rate", [20.0, 90.0, 300.0])
def test_independent_arrivals_are_never_worth_a_wait(rate: float) -> None:
    """A Poisson stream into a run of 10 ms that costs the same for all: what comes, comes anyway."""
    dice, returns, now, waits, decisions = random.Random(4), Returns(), 0.0, 0, 0
    arrival, queue = dice.expovariate(rate), 0
    for _ in range(3000):
        if not queue:
            now = max(now, arrival)
        while arrival <= now:
            returns.arrived(arrival, 1)
            queue, arrival = queue + 1, arrival + dice.expovariate(rate)
        decisions += 1
        waits += worth_waiting(FLAT, min(queue, 8), returns.expected(now), PATIENT) is not None
        rows, end = min(queue, 8), now + 0.010
        queue -= rows
        while arrival <= end:
            returns.arrived(arrival, 1)
            queue, arrival = queue + 1, arrival + dice.expovariate(rate)
        now = end
        returns.answered(now, rows)
    assert waits <= decisions * 0.02


def test_a_crowd_that_was_split_comes_together_again_after_a_moments_wait() -> None:
    """Eight callers who ask again a millisecond after each answer: without a wait, one of them would for ever run ahead
    of the other seven, and every run would serve half as many as it could."""

    async def story() -> None:
        async with Bench(identity(), buckets=(1, 2, 4, 8), cost=IN_THREAD) as bench:

            async def caller(number: int) -> None:
                await bench.clock.sleep(number * 0.002)
                for turn in range(60):
                    tag = float(number * 100 + turn)
                    assert (await bench.send(tag))["y"].tolist() == [tag]
                    await bench.clock.sleep(0.001)

            callers = [asyncio.create_task(caller(number)) for number in range(8)]
            busy_for = 0.0
            while not all(task.done() for task in callers):
                await bench.advance(0.0005)
                busy_for = busy_for + 0.0005 if bench.executor.waiting else 0.0
                if busy_for >= IN_THREAD:
                    await bench.run(1)
                    busy_for = 0.0
            await asyncio.gather(*callers)
            assert bench.engine.runs[:2] != [8, 8], "the story begins with a split crowd"
            assert bench.engine.runs[30:50] == [8] * 20

    asyncio.run(story())
