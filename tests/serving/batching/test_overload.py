"""Twice and ten times more than can be done, in simulated time: as much as at the peak is answered in time, hardly
anybody is let in in vain, and nothing of it lasts. `loadtests/overload_bench.py` asks the same of a real machine."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from itertools import product
from typing import Any

import pytest

from contracts.errors import DeadlineExceeded, Overloaded
from tests.serving.batching.bench import Bench, settle
from tests.serving.engines import HandExecutor, identity

Costs = Mapping[int, float]
BUCKETS = (1, 2, 4, 8, 16, 32)
DEADLINE = 0.5  # seconds
MODELS: dict[str, Costs] = {
    "the same for all": dict.fromkeys(BUCKETS, 0.1),
    "half of it overhead": {b: 0.010 + 0.010 * b for b in BUCKETS},
    "nothing gained": {b: 0.010 * b for b in BUCKETS},
    "hardly anything gained": {b: 0.010 * b**0.98 for b in BUCKETS},
    "big ones are worse": {b: 0.010 * b**0.8 if b <= 8 else 0.012 * b for b in BUCKETS},
}
NEVER = float("inf")


class CountingExecutor(HandExecutor):
    """Knows how many rows the run has that it was given last."""

    rows = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.rows = len(args[1]["x"])
        return super().submit(fn, *args, **kwargs)


def capacity(costs: Costs) -> float:
    return max(bucket / seconds for bucket, seconds in costs.items())


def outcomes(costs: Costs, *phases: tuple[float, float], believed: Costs | None = None) -> list[Counter[str]]:
    """What became of the requests of each phase, which is a rate per second and how many seconds it lasts. Runs really
    take what `costs` says, times 0.9 to 1.1; the batcher believes `believed`, and nothing teaches it better prices."""
    dice = random.Random(7)
    due: list[tuple[float, int]] = []
    now = 0.0
    for phase, (rate, seconds) in enumerate(phases):
        end = now + seconds
        while (now := now + dice.expovariate(rate)) < end:
            due.append((now, phase))
        now = end
    tallies = [Counter[str]() for _ in phases]

    async def story() -> None:
        async with Bench(identity(), cost=believed or costs, buckets=BUCKETS) as bench:
            clock, engine, ends = bench.clock, CountingExecutor(), NEVER
            bench.executor = bench.batcher._executor = engine
            coming = list(reversed(due))
            while coming or engine.waiting or bench.batcher.queued_rows:
                now = min(coming[-1][0] if coming else NEVER, ends, clock.next_due)
                await bench.advance(max(0.0, now - clock.monotonic()))
                if ends <= now:
                    ends = NEVER
                    await bench.run(1)
                while coming and coming[-1][0] <= now:
                    send(bench, tallies[coming.pop()[1]])
                await settle()
                if engine.waiting and ends == NEVER:
                    cost = costs[next(bucket for bucket in BUCKETS if bucket >= engine.rows)]
                    ends = clock.monotonic() + cost * dice.uniform(0.9, 1.1) + 100e-6

    asyncio.run(story())
    return tallies


def send(bench: Bench, tally: Counter[str]) -> None:
    try:
        future = bench.send(1.0, seconds=DEADLINE)
    except Overloaded:
        tally["refused"] += 1
    else:
        future.add_done_callback(lambda done: tally.update([what(done)]))


def what(future: "asyncio.Future[Any]") -> str:
    error = future.exception()
    return "good" if error is None else "late" if isinstance(error, DeadlineExceeded) else "in vain"


@pytest.mark.parametrize(("model", "times"), list(product(MODELS, (2, 10))))
def test_under_a_flood_as_much_is_answered_in_time_as_at_the_peak(model: str, times: int) -> None:
    costs = MODELS[model]
    most, seconds = capacity(costs), 1500 / capacity(costs) / times
    peak = max(outcomes(costs, (share * most, seconds))[0]["good"] for share in (0.9, 1.0)) / seconds
    (flood,) = outcomes(costs, (times * most, seconds))
    assert flood["good"] / seconds >= (0.95 if times == 2 else 0.85) * peak
    assert flood["late"] + flood["in vain"] <= 0.02 * flood["good"]


@pytest.mark.parametrize("model", MODELS)
def test_one_deadline_after_a_flood_everybody_is_answered_as_if_it_had_not_been(model: str) -> None:
    costs = MODELS[model]
    most = capacity(costs)
    _, _, calm = outcomes(
        costs, (10 * most, 800 / most / 10 + DEADLINE), (0.5 * most, DEADLINE), (0.5 * most, 300 / most)
    )
    assert calm["refused"] + calm["late"] + calm["in vain"] <= 0.02 * calm["good"]


@pytest.mark.parametrize("model", ["the same for all", "half of it overhead", "nothing gained"])
def test_where_runs_take_longer_than_their_prices_say_fewer_are_let_in_until_those_are_in_time(model: str) -> None:
    costs = {bucket: 1.6 * seconds for bucket, seconds in MODELS[model].items()}
    most = capacity(costs)
    _, flood = outcomes(costs, (2 * most, 2.0), (2 * most, 1500 / most / 2), believed=MODELS[model])
    assert flood["good"] >= 0.8 * most * 1500 / most / 2
    assert flood["late"] + flood["in vain"] <= 0.05 * flood["good"]
