"""Whole rollouts in simulated time: the real steering, fed with traffic that depends on the weights it sets itself."""

from dataclasses import dataclass, replace

import numpy as np

from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.rollout.deployment import State
from deploy.rollout.plan import DEFAULT_STEPS, Guardrail, Plan, Strategy, Watched
from deploy.rollout.steering import Seen, Turn, steer
from deploy.rollout.trial import Counted, Stage, Trial

TICK = 5.0
ERRORS_ONLY = Plan(
    Strategy.CANARY,
    steps=tuple(replace(step, units=0) for step in DEFAULT_STEPS),
    guardrails=(Guardrail(Watched.ERRORS, 1.0, objective=0.001),),
)


@dataclass(frozen=True)
class End:
    """How a rollout ended, after how many seconds, and how many requests the candidate had answered."""

    turn: Turn | None
    seconds: float
    exposed: int


def roll_out(
    rng: np.random.Generator, rps: float, live: float, candidate: float, *, plan: Plan = ERRORS_ONLY, most: float = 3600
) -> End:
    """One rollout up to its switch, its rollback, or `most` seconds. `live` and `candidate` are failure rates."""
    trial, state, exposed, ticks = Trial.begin(plan), State.CANARY, 0, int(most / TICK)
    for i in range(1, ticks + 1):
        share = trial.weight / 10_000
        units = (int(rng.poisson(rps * TICK * (1 - share))), int(rng.poisson(rps * TICK * share)))
        arms = [Arm(n, int(rng.binomial(n, rate))) for n, rate in zip(units, (live, candidate), strict=True)]
        exposed += units[1]
        trial, judgement = steer(state, trial, Seen(TICK, Counted(Block(*arms), NOTHING)))
        match judgement.turn:
            case Turn.ROLLBACK | Turn.CUTOVER:
                return End(judgement.turn, i * TICK, exposed)
            case Turn.ADVANCE:
                trial, state = trial.begun(Stage.CANARY, trial.step + 1), State.CANARY
            case Turn.HALT:
                state = judgement.state
            case Turn.GO_ON:
                state = State.CANARY
    return End(None, most, exposed)
