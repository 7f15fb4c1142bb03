"""How many callers see an error before a bad candidate's traffic is gone, simulated with the rules that decide."""

import numpy as np

from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import State
from deploy.rollout.plan_file import parse_plan
from deploy.rollout.rules import decide
from tests.deploy.rollout.simulated import look, started
from tests.e2e.stage import Scene, plan_text

SIMULATED = 1000
LOOK_SECONDS = 3.0  # the longest that a tick of one second makes of looks every two seconds
TO_ROLL_BACK_SECONDS = 1.0


def most_who_notice(scene: Scene, failing: float) -> float:
    """How many callers see an error before a candidate's traffic is gone, in 99 of 100 simulated rollouts."""
    plan = parse_plan(plan_text(scene.plan))
    rng = np.random.default_rng(7)
    weight = plan.steps[0].weight / 10_000

    def arm(share: float, rate: float, seconds: float) -> Arm:
        units = int(rng.poisson(scene.rate * share * seconds))
        return Arm(units, int(rng.binomial(units, rate)))

    def noticed() -> int:
        d, bad = started(plan), 0
        while d.state is not State.ROLLED_BACK:
            block = Block(arm(1 - weight, 0.0, LOOK_SECONDS), arm(weight, failing, LOOK_SECONDS))
            bad += block.candidate.bad
            d = decide(d, look(Counted(block, block), seconds=LOOK_SECONDS), 0.0).deployment
        return bad + arm(weight, failing, TO_ROLL_BACK_SECONDS).bad

    return float(np.quantile([noticed() for _ in range(SIMULATED)], 0.99))
