"""What people are shown of a rollout says what its evidence says."""

import math
from dataclasses import replace

import numpy as np
import pytest

from contracts.traffic import TOTAL
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.plan import BLUEGREEN, CANARY, SHADOW, OnHarm, Plan, Watched
from deploy.rollout.rules import decide
from deploy.rollout.shown import Shown, shown
from deploy.rollout.trial import Stage
from tests.deploy.rollout.simulated import ERRORS_ONLY, Version, look, served, started


def after(plan: Plan, ticks: int, live: Version, candidate: Version, rps: float = 100) -> Deployment:
    rng, d = np.random.default_rng(20261121), started(plan)
    for _ in range(ticks):
        share = d.mirrored() / TOTAL or d.weight / TOTAL
        d = decide(d, look(served(rng, rps, share, live, candidate)), 0.0).deployment
    return d


def of(d: Deployment) -> Shown:
    found = shown(d)
    assert found is not None
    return found


def test_nothing_is_shown_where_nothing_rolls_out() -> None:
    assert shown(Deployment("m")) is None


def test_a_rollout_under_way_shows_its_step_its_evidence_and_when_it_will_end() -> None:
    now = of(after(CANARY, 30, Version(), Version()))
    assert (now.step, now.steps, now.stage, now.weight) == (2, 5, Stage.CANARY, 500)
    assert (now.dwell, now.age, now.deadline, now.unseen) == (120.0, 150.0, CANARY.deadline, 0.0)
    assert now.dwelt == 30.0
    assert now.units > now.units_needed == 20
    assert now.eta == pytest.approx(CANARY.shortest - now.age, abs=30)
    by_kind = {g.watched: g for g in now.guardrails}
    assert set(by_kind) == {g.watched for g in CANARY.guardrails}
    errors = by_kind[Watched.ERRORS]
    assert errors.harm_threshold == pytest.approx(math.log10(200))
    assert errors.safe_threshold == pytest.approx(math.log10(20))
    assert errors.risk is None, "nothing failed"
    assert (errors.live.bad, errors.candidate.bad) == (0, 0)
    assert errors.live.units > 10_000
    predictions = by_kind[Watched.PREDICTIONS]
    assert (predictions.safe, predictions.required, predictions.on_harm) == (None, False, OnHarm.FREEZE)
    assert "bits" in predictions.said
    latency = by_kind[Watched.LATENCY]
    assert latency.risk is not None
    assert latency.risk.lower < 1 < latency.risk.upper
    assert "slower than" in latency.said


def test_the_relative_risk_is_about_all_weights_together() -> None:
    d = after(replace(CANARY, on_harm=OnHarm.FREEZE), 60, Version(failing=0.01), Version(failing=0.05))
    assert d.state is State.HOLD
    errors = of(d).guardrails[0]
    assert errors.risk is not None
    assert errors.risk.lower < 5 < errors.risk.upper
    assert 1.5 < errors.risk.lower < errors.risk.estimate < errors.risk.upper
    assert errors.harm > errors.harm_threshold


def test_time_to_promotion_is_unknown_without_traffic_and_never_less_than_what_the_plan_takes() -> None:
    assert of(started(CANARY)).eta is None
    assert of(after(CANARY, 5, Version(), Version(), rps=0)).eta is None
    slow = of(after(ERRORS_ONLY, 5, Version(), Version(), rps=4))
    assert slow.eta is not None
    assert slow.eta > 1.5 * ERRORS_ONLY.shortest


@pytest.mark.parametrize("plan", [SHADOW, BLUEGREEN])
def test_a_mirror_is_shown_as_such(plan: Plan) -> None:
    now = of(after(plan, 3, Version(), Version()))
    assert (now.stage, now.weight, now.dwell, now.units_needed) == (Stage.SHADOW, 0, plan.mirror_for, 20)
    assert now.eta is not None
