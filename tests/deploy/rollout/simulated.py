"""Whole rollouts in simulated time: the real steering, fed with traffic that depends on the weights it sets itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from contracts.metrics import LATENCY_SECONDS, PREDICTION_BIN_COUNT
from contracts.names import Color
from contracts.traffic import TOTAL
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counted import NO_BINS, Bins, Counted
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


Durations = Callable[[np.random.Generator, int], np.ndarray]
"""Seconds that so many requests take."""


def lognormal(median: float = 0.020, sigma: float = 0.6, *, rarely: float = 0.0) -> Durations:
    """A share `rarely` of the requests takes ten times as long."""

    def durations(rng: np.random.Generator, requests: int) -> np.ndarray:
        seconds = median * np.exp(sigma * rng.standard_normal(requests))
        return np.where(rng.random(requests) < rarely, 10 * seconds, seconds) if rarely else seconds

    return durations


@dataclass(frozen=True)
class Version:
    """How one version behaves: failures and failing engine runs as shares, durations, and shares of predictions."""

    failing: float = 0.0
    durations: Durations = field(default_factory=lognormal)
    answers: tuple[float, ...] = (0.1,) * 10


def served(rng: np.random.Generator, rps: float, share: float, live: Version, candidate: Version) -> Counted:
    """Five seconds of requests with everything that is counted of them, one row and one engine run each."""
    units = (int(rng.poisson(rps * TICK * (1 - share))), int(rng.poisson(rps * TICK * share)))
    both = tuple(zip(units, (live, candidate), strict=True))
    errors = Block(*(Arm(n, int(rng.binomial(n, v.failing))) for n, v in both))
    slower = [(n, (v.durations(rng, n)[:, None] > LATENCY_SECONDS).sum(axis=0)) for n, v in both]
    blocks = tuple(Block(*(Arm(n, int(over[i])) for n, over in slower)) for i in range(len(LATENCY_SECONDS)))
    unused = (0,) * (PREDICTION_BIN_COUNT - len(live.answers))
    bins = Bins(*((*map(int, rng.multinomial(n, v.answers)), *unused) for n, v in both)) if live.answers else NO_BINS
    return Counted(errors, Block(*(Arm(n, 0) for n in units)), blocks, bins)
