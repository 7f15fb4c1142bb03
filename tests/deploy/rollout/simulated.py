"""Whole rollouts in simulated time: the real steering, fed with traffic that depends on the weights it sets itself."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from contracts.names import Color
from contracts.traffic import TOTAL
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.events import Health, Observation
from deploy.rollout.plan import DEFAULT_STEPS, Guardrail, Plan, Strategy, Watched
from deploy.rollout.rules import decide

TICK = 5.0
ERRORS_ONLY = Plan(
    Strategy.CANARY,
    steps=tuple(replace(step, units=0) for step in DEFAULT_STEPS),
    guardrails=(Guardrail(Watched.ERRORS, 1.0, objective=0.001),),
)


@dataclass(frozen=True)
class End:
    """How a rollout ended, after how many seconds, and how many requests the candidate had answered."""

    state: State
    seconds: float
    exposed: int


def roll_out(
    rng: np.random.Generator, rps: float, live: float, candidate: float, *, plan: Plan = ERRORS_ONLY, most: float = 3600
) -> End:
    """One rollout up to its switch, its rollback, or `most` seconds. `live` and `candidate` are failure rates."""
    d, exposed = started(plan), 0
    for i in range(1, int(most / TICK) + 1):
        counted = traffic(rng, rps, d.weight / TOTAL, live, candidate)
        exposed += counted.errors.candidate.units
        d = decide(d, look(counted), 0.0).deployment
        if d.state in (State.BAKING, State.ROLLED_BACK):
            return End(d.state, i * TICK, exposed)
    return End(d.state, most, exposed)


def started(plan: Plan, deaths: int = 0) -> Deployment:
    """A candidate that is warm beside a live version, at its first step, after so many deaths of its workers."""
    warming = Deployment(
        "m",
        state=State.WARMING,
        live=Place(1, Color.BLUE, "one", 1),
        candidate=Place(2, Color.GREEN, "two", 1),
        strategy=plan.strategy,
        plan=plan,
    )
    return decide(warming, look(None, candidate=Health(ready=1, deaths=deaths)), 0.0).deployment


def look(counted: Counted | None, **other: Any) -> Observation:
    """The world five seconds later, with workers of both versions ready."""
    facts: dict[str, Any] = {"live": Health(ready=1), "candidate": Health(ready=1), "seconds": TICK, "counted": counted}
    return Observation(**(facts | other))


def traffic(rng: np.random.Generator, rps: float, share: float, live: float, candidate: float) -> Counted:
    """Five seconds of requests, a `share` of them to the candidate, failing at the rates given."""
    units = (int(rng.poisson(rps * TICK * (1 - share))), int(rng.poisson(rps * TICK * share)))
    arms = (Arm(n, int(rng.binomial(n, rate))) for n, rate in zip(units, (live, candidate), strict=True))
    return Counted(Block(*arms), NOTHING)
