"""How much of today's traffic a plan may count on: measured, and only believed as far as a short look allows."""

import asyncio
import math

from contracts.names import Color
from deploy.evidence.counters import Fact, Kind, Looked, Series, Source, Told
from deploy.foresight import Foresight
from deploy.pace import Pacer
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.plan import CANARY
from deploy.rollout.trial import Trial
from tests.fakes.clock import HandClock

LIVE, NEXT = Place(1, Color.BLUE, "d1", 1), Place(2, Color.GREEN, "d2", 1)
BEGUN = Deployment(
    "m", 3, State.CANARY, LIVE, NEXT, weight=100, plan=CANARY, trial=Trial.begin(CANARY), strategy=CANARY.strategy
)


class Steady:
    """Counters of a version that answers so many requests a second, by the clock."""

    def __init__(self, clock: HandClock, requests: float) -> None:
        self._clock, self._requests = clock, requests

    async def look(self, versions: object) -> Looked:
        now = self._clock.monotonic()
        told = Told(now, counts={Series(Fact.ANSWERED): float(math.floor(now * self._requests))})
        return Looked(now, {("m", 1): {Source(Kind.SPLIT, "envoy"): told}})


async def warned(requests: float, warming: float) -> tuple[str | None, float]:
    """What a deploy is warned of whose candidate warms so long, and how long finding out took beyond that."""
    clock = HandClock()
    clock.move(100.0)
    foresight = Foresight(lambda _: BEGUN, Pacer(Steady(clock, requests), clock), clock)
    glance = await foresight.glance("m")
    clock.move(warming)
    asked, waited = asyncio.create_task(foresight.warning(BEGUN, glance)), 0.0
    while not asked.done():
        await asyncio.sleep(0)
        if clock.next_due < math.inf:
            waited += clock.next_due - clock.monotonic()
            clock.move(clock.next_due - clock.monotonic())
    return await asked, waited


def test_a_busy_model_waits_for_nothing_and_is_warned_of_nothing() -> None:
    assert asyncio.run(warned(100.0, 0.3)) == (None, 0.0)


def test_a_quiet_moment_is_looked_at_longer_before_it_is_called_a_quiet_model() -> None:
    problem, waited = asyncio.run(warned(0.0, 0.3))
    assert problem is not None
    assert "there is no traffic" in problem
    assert 2.6 < waited < 2.8
    assert asyncio.run(warned(8.0, 0.1))[0] is None, "eight a second, and none of them in the first tenth"


def test_a_candidate_that_warms_long_has_been_measured_by_then() -> None:
    problem, waited = asyncio.run(warned(0.05, 20.0))
    assert problem is not None
    assert "this plan would decide" in problem
    assert waited == 0.0
