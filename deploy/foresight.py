"""What a plan may expect of today's traffic: measured, forecast, and refused or warned about before it costs time.

Measuring is pace.py, the forecast deploy.rollout.forecast.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from contracts.clock import Clock
from contracts.errors import Conflict, InvalidInput, TealError
from deploy.pace import PACE_SECONDS, Glance, Pace, Pacer
from deploy.rollout.deployment import Deployment
from deploy.rollout.forecast import Forecast, Live, forecast
from deploy.rollout.plan import CANARY, Plan

KNOWN_REQUESTS = 5
"""Requests of a measurement from which a plan is refused for what they say."""


@dataclass(frozen=True)
class Foreseen:
    """A plan's forecast and what it is made of; `pace` is None where somebody said the traffic."""

    plan: Plan
    live: Live
    pace: Pace | None
    forecast: Forecast


class Foresight:
    """`deployment_of` reads what is deployed of a model; it may block. `seconds` is how long a measurement takes."""

    def __init__(
        self, deployment_of: Callable[[str], Deployment], pacer: Pacer, clock: Clock, seconds: float = PACE_SECONDS
    ) -> None:
        self._deployment_of = deployment_of
        self._pacer = pacer
        self._clock = clock
        self._seconds = seconds

    async def of(self, model: str, plan: Plan | None, live: Live | None) -> Foreseen:
        """How long a plan would take (None: that of the rollout under way, else the default one) at a pace that is
        given or, for None, measured now. Raises Conflict when nothing is live that could be measured, Unavailable when
        it cannot be measured."""
        deployment = await asyncio.to_thread(self._deployment_of, model)
        chosen = plan or deployment.plan or CANARY
        if live is not None:
            return Foreseen(chosen, live, None, forecast(chosen, live))
        if deployment.live is None:
            raise Conflict(
                f"model {model}: nothing is live, so there is no traffic to measure; say how much there will be"
            )
        pace = await self._pacer.measure(model, deployment.live.version, self._seconds)
        return Foreseen(chosen, pace.live, pace, forecast(chosen, pace.live))

    async def check(self, model: str, plan: Plan) -> None:
        """Raise InvalidInput when today's traffic, as far as it can be known in a few seconds, says that the plan
        cannot decide before its deadline. A quiet moment says nothing."""
        glance = await self.glance(model)
        if glance is None:
            return
        await self._clock.sleep(self._seconds)
        pace = await self._since(glance)
        if pace is None or pace.requests < KNOWN_REQUESTS or forecast(plan, _at_most(pace)).problem is None:
            return
        if problem := forecast(plan, pace.live).problem:
            raise InvalidInput(f"model {model}: {problem}")

    async def warning(self, deployment: Deployment, glance: Glance | None) -> str | None:
        """What speaks against the rollout that has begun, measured since `glance`, which was before its candidate was
        warm. Takes time only where that was too short to tell a quiet moment from a quiet model."""
        if deployment.trial is None or glance is None:
            return None
        plan, pace = deployment.trial.plan, await self._since(glance)
        if pace is None:
            return None
        problem = forecast(plan, pace.live).problem
        unsure = problem is not None and forecast(plan, _at_most(pace)).problem is None
        if unsure and pace.seconds < self._seconds:
            await self._clock.sleep(self._seconds - pace.seconds)
            pace = await self._since(glance)
            problem = None if pace is None else forecast(plan, pace.live).problem
        return problem

    async def glance(self, model: str) -> Glance | None:
        """The counters of the live version, None when nobody can tell: a forecast is a service, not a condition."""
        live = (await asyncio.to_thread(self._deployment_of, model)).live
        try:
            return None if live is None else await self._pacer.glance(model, live.version)
        except TealError:
            return None

    async def _since(self, glance: Glance) -> Pace | None:
        try:
            return await self._pacer.since(glance)
        except TealError:
            return None


def _at_most(pace: Pace) -> Live:
    """What the pace may be at most, given that requests come at random."""
    return replace(pace.live, requests=(pace.requests + 2 * math.sqrt(pace.requests + 1)) / pace.seconds)
