import math
from dataclasses import replace

import numpy as np
import pytest

from deploy.rollout.forecast import Live, forecast
from deploy.rollout.plan import CANARY, DISAGREEMENT, SHADOW, Step
from tests.deploy.rollout.simulated import ERRORS_ONLY, roll_out


@pytest.mark.parametrize(("rps", "rate", "risk"), [(100, 0.01, 3.0), (100, 0.01, 2.0), (1000, 0.001, 3.0)])
def test_the_time_to_find_harm_is_near_what_simulated_rollouts_take(rps, rate, risk):
    rng = np.random.default_rng(3)
    took = np.median([roll_out(rng, rps, rate, rate * risk).seconds for _ in range(100)])
    said = {r: seconds for r, seconds, _ in forecast(ERRORS_ONLY, Live(rps, rate)).find}[risk]
    assert took / 1.6 < said < took * 1.6


@pytest.mark.parametrize(("rps", "rate"), [(100, 0.01), (100, 0.001), (20, 0.01)])
def test_the_time_to_promotion_is_near_what_simulated_rollouts_take(rps, rate):
    rng = np.random.default_rng(4)
    took = np.median([roll_out(rng, rps, rate, rate).seconds for _ in range(60)]) + ERRORS_ONLY.bake
    assert forecast(ERRORS_ONLY, Live(rps, rate)).promote == pytest.approx(took, rel=0.35)


def test_a_busy_healthy_model_takes_the_shortest_time_a_plan_allows():
    assert forecast(CANARY, Live(1000, 0.01)).promote == CANARY.shortest


def test_a_plan_that_cannot_decide_before_its_deadline_says_so_with_a_way_out():
    quiet = forecast(CANARY, Live(10, 0.001))
    assert quiet.promote > CANARY.deadline
    assert "it can with `deadline: 3.5h` or `margin: 3`" in quiet.problem
    assert forecast(replace(CANARY, margin=3.0), Live(10, 0.001)).problem is None
    hopeless = forecast(CANARY, Live(0.001, 0.0))
    assert "deploy by hand" in hopeless.problem
    silent = forecast(CANARY, Live(0.0, 0.0))
    assert math.isinf(silent.promote)
    assert "no traffic" in silent.problem


def test_a_version_that_never_fails_is_promoted_by_its_objective():
    never = forecast(ERRORS_ONLY, Live(100, 0.0))
    assert never.problem is None
    without = replace(ERRORS_ONLY, guardrails=tuple(replace(g, objective=None) for g in ERRORS_ONLY.guardrails))
    assert math.isinf(forecast(without, Live(100, 0.0)).promote)


def test_a_bigger_step_finds_harm_sooner():
    small = replace(ERRORS_ONLY, steps=(Step(100, 600.0),))
    big = replace(ERRORS_ONLY, steps=(Step(5000, 600.0),))
    live = Live(50, 0.01)
    assert forecast(big, live).find[2][1] < forecast(small, live).find[2][1]


def test_a_candidate_that_never_serves_takes_as_long_as_its_answers_need_to_be_shown_alike():
    busy, quiet = forecast(SHADOW, Live(100, 0.0)), forecast(SHADOW, Live(1, 0.0))
    assert busy.promote == SHADOW.mirror_for
    assert busy.find == ()
    assert quiet.promote == pytest.approx(math.log(1 / SHADOW.beta) / -math.log1p(-DISAGREEMENT) / 0.1)
