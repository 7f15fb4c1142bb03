"""Without knobs as good as with the best: the batcher in simulated time beside every (max rows, max wait) of a grid, on
the same independent arrivals. `loadtests/batcher_bench.py` asks the same of a real machine."""

import asyncio
import random
from collections.abc import Mapping
from itertools import product

import pytest

from tests.serving.batching.bench import Bench, settle
from tests.serving.engines import identity

Costs = Mapping[int, float]
BUCKETS = (1, 2, 4, 8, 16, 32)
MODELS: dict[str, Costs] = {
    "the same for all": dict.fromkeys(BUCKETS, 0.004),
    "half of it overhead": {b: 0.002 + 0.002 * b for b in BUCKETS},
    "nothing gained": {b: 0.004 * b for b in BUCKETS},
}
LOADS = {"low": 0.2, "middle": 0.6, "high": 0.95}
ARRIVALS = 1500
NEVER = float("inf")


def cost(costs: Costs, rows: int) -> float:
    """Of a run, the way into the thread and back included."""
    return costs[next(b for b in BUCKETS if b >= rows)] + 100e-6


def arrivals(rate: float) -> list[float]:
    dice, now = random.Random(11), 0.0
    return [now := now + dice.expovariate(rate) for _ in range(ARRIVALS)]


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(0.99 * len(latencies))]


def static(costs: Costs, times: list[float], most: int, wait: float) -> float:
    """A batcher with knobs: a batch leaves when it is full or its first row has waited, and the engine is free."""
    latencies, free, first = [], 0.0, 0
    while first < len(times):
        full = times[first + most - 1] if first + most <= len(times) else NEVER
        leave = max(free, min(full, times[first] + wait))
        rows = sum(1 for t in times[first : first + most] if t <= leave)
        free = leave + cost(costs, rows)
        latencies += [free - t for t in times[first : first + rows]]
        first += rows
    return p99(latencies)


def ours(costs: Costs, times: list[float]) -> float:
    async def story() -> list[float]:
        latencies: list[float] = []
        async with Bench(identity(), cost=costs, buckets=BUCKETS) as bench:
            clock, ends, coming = bench.clock, NEVER, list(reversed(times))
            while coming or bench.executor.waiting or len(latencies) < len(times):
                now = min(coming[-1] if coming else NEVER, ends, clock.next_due)
                await bench.advance(max(0.0, now - clock.monotonic()))
                if ends <= now:
                    ends = NEVER
                    await bench.run(1)
                while coming and coming[-1] <= now:
                    due = coming.pop()
                    future = bench.send(due)
                    future.add_done_callback(lambda _, due=due: latencies.append(clock.monotonic() - due))
                await settle()
                if bench.executor.waiting and ends == NEVER:
                    running = len(times) - len(coming) - len(latencies) - bench.batcher.queued_rows
                    ends = clock.monotonic() + cost(costs, running)
        return latencies

    return p99(asyncio.run(story()))


@pytest.mark.parametrize(("model", "load"), list(product(MODELS, LOADS)))
def test_the_slowest_answers_come_as_soon_as_with_the_best_knobs_for_that_load(model: str, load: str) -> None:
    costs = MODELS[model]
    most = max(b / cost(costs, b) for b in BUCKETS)
    times = arrivals(LOADS[load] * most)
    best = min(static(costs, times, rows, wait) for rows in BUCKETS for wait in (0.0, 0.001, 0.004, 0.016))
    mine = ours(costs, times)
    assert mine <= 1.1 * best
    if load == "low":
        assert mine <= 1.1 * static(costs, times, 1, 0.0)
