"""Whole rollouts in simulated time end as was worked out beforehand: how often wrongly, and after how long."""

from dataclasses import replace

import numpy as np
import pytest

from contracts.traffic import TOTAL
from deploy.rollout.deployment import State, scaled
from deploy.rollout.events import Health
from deploy.rollout.rules import decide
from tests.deploy.rollout.simulated import ERRORS_ONLY, End, look, roll_out, started, traffic

RUNS = 160


def ends(rps: float, live: float, candidate: float, runs: int = RUNS) -> list[End]:
    rng = np.random.default_rng(20261121)
    return [roll_out(rng, rps, live, candidate) for _ in range(runs)]


def share(of: list[End], state: State) -> float:
    return sum(end.state is state for end in of) / len(of)


def test_at_most_21_of_1000_healthy_candidates_are_rolled_back_and_the_rest_are_promoted_in_the_shortest_time():
    healthy = ends(100, 0.01, 0.01, runs=1000)
    assert share(healthy, State.ROLLED_BACK) <= 0.021
    assert share(healthy, State.BAKING) >= 0.975
    assert np.median([end.seconds for end in healthy]) == 840


@pytest.mark.parametrize(
    ("rps", "live", "candidate", "seconds", "exposed"),
    [(100, 0.01, 0.02, 340, 1464), (100, 0.01, 0.03, 210, 450), (100, 0.01, 0.1, 45, 47), (100, 0.001, 0.01, 220, 461),
     (10, 0.01, 0.03, 565, 511), (1000, 0.001, 0.003, 200, 4354)],
)  # fmt: skip
def test_a_worse_candidate_is_rolled_back_after_as_many_requests_as_was_worked_out(
    rps, live, candidate, seconds, exposed
):
    worse = ends(rps, live, candidate)
    assert share(worse, State.ROLLED_BACK) >= 0.99
    assert np.median([end.seconds for end in worse]) == pytest.approx(seconds, rel=0.12, abs=5)
    assert np.median([end.exposed for end in worse]) == pytest.approx(exposed, rel=0.2)


def test_a_candidate_half_again_as_bad_is_mostly_found():
    assert share(ends(100, 0.01, 0.015), State.ROLLED_BACK) >= 0.93


@pytest.mark.parametrize(("rps", "rate", "seconds"), [(100, 0.001, 870), (10, 0.01, 875)])
def test_little_evidence_takes_longer_and_promotes_all_the_same(rps, rate, seconds):
    healthy = ends(rps, rate, rate)
    assert share(healthy, State.BAKING) >= 0.97
    assert np.median([end.seconds for end in healthy]) == pytest.approx(seconds, rel=0.05)


def test_ticks_that_come_more_often_than_counts_make_no_step_longer():
    d, rng, seconds = started(ERRORS_ONLY), np.random.default_rng(7), 0
    while d.weight == ERRORS_ONLY.steps[0].weight:
        seconds += 1
        counted = traffic(rng, 100, d.weight / TOTAL, 0.01, 0.01) if seconds % 5 == 0 else None
        d = decide(d, look(counted, seconds=1.0), 0.0).deployment
    assert seconds == ERRORS_ONLY.steps[0].dwell


@pytest.mark.parametrize(("workers", "deaths", "state"), [(1, 1, State.ROLLED_BACK), (2, 1, State.CANARY),
                                                          (2, 2, State.ROLLED_BACK)])  # fmt: skip
def test_a_candidate_whose_workers_died_is_rolled_back_even_if_they_were_back_before_anybody_looked(
    workers, deaths, state
):
    d = started(ERRORS_ONLY)
    assert d.candidate is not None
    d = replace(d, candidate=scaled(d.candidate, workers))
    assert decide(d, look(None, candidate=Health(ready=workers, deaths=deaths)), 0.0).deployment.state is state


def test_deaths_before_the_first_step_are_not_held_against_a_candidate():
    d = started(ERRORS_ONLY, deaths=3)
    d = decide(d, look(None, candidate=Health(ready=1, deaths=3)), 0.0).deployment
    assert d.state is State.CANARY
    d = decide(d, look(None, candidate=Health(ready=1, deaths=0)), 0.0).deployment  # a new control plane
    assert decide(d, look(None, candidate=Health(ready=1, deaths=1)), 0.0).deployment.state is State.ROLLED_BACK
