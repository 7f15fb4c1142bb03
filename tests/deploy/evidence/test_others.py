import math

import numpy as np
import pytest

from contracts.errors import InvalidInput
from deploy.evidence import absolute, betting, categories
from deploy.evidence.absolute import Absolute
from deploy.evidence.betting import Betting
from deploy.evidence.blocks import Arm
from deploy.evidence.categories import Categories
from deploy.evidence.paired import Paired

ALARM = math.log(1 / 0.01)
SAFE = math.log(1 / 0.05)


def test_a_version_that_never_fails_meets_its_objective_after_about_three_thousand_requests():
    evidence = absolute.update(Absolute(0.001), Arm(3030, 0))
    assert evidence.log_safe < SAFE
    assert absolute.update(evidence, Arm(20, 0)).log_safe >= SAFE


def test_one_failure_does_not_refute_an_objective_for_ever():
    evidence = absolute.update(Absolute(0.001), Arm(10_000, 1))
    assert evidence.log_safe >= SAFE


@pytest.mark.parametrize(("rate", "bound"), [(0.001, 13), (0.0005, 13)])
def test_a_version_within_its_objective_rarely_raises_the_alarm(rate, bound):
    rng, raised = np.random.default_rng(5), 0
    for _ in range(500):
        evidence = Absolute(0.001)
        for _ in range(120):
            evidence = absolute.update(evidence, Arm(500, int(rng.binomial(500, rate))))
            if evidence.log_harm >= ALARM:
                raised += 1
                break
    assert raised <= bound


def test_ten_times_the_objective_is_found_within_a_few_hundred_requests():
    rng, needed = np.random.default_rng(6), []
    for _ in range(100):
        evidence, units = Absolute(0.001), 0
        while evidence.log_harm < ALARM:
            evidence, units = absolute.update(evidence, Arm(50, int(rng.binomial(50, 0.01)))), units + 50
        needed.append(units)
    assert np.median(needed) < 800


@pytest.mark.parametrize("objective", [0.0, 1.0, 1.1, -0.1, math.nan])
def test_an_objective_that_cannot_be_tested_is_refused(objective):
    with pytest.raises(InvalidInput, match="not usable"):
        Absolute(objective)


def test_a_share_that_may_be_large_is_tested_as_well():
    rng, evidence = np.random.default_rng(7), Absolute(0.2)
    for _ in range(20):
        evidence = absolute.update(evidence, Arm(20, int(rng.binomial(20, 0.07))))
    assert evidence.log_safe >= SAFE
    assert absolute.update(Absolute(0.2), Arm(40, 30)).log_harm >= ALARM


def drawn(rng, p, q, blocks=360):
    for _ in range(blocks):
        yield rng.multinomial(rng.poisson(450), p), rng.multinomial(rng.poisson(50), q)


TEN = np.full(10, 0.1)


def test_versions_that_answer_alike_rarely_seem_to_differ():
    rng, raised = np.random.default_rng(11), 0
    for _ in range(400):
        evidence = Categories.of(10)
        for live, candidate in drawn(rng, TEN, TEN, blocks=120):
            evidence = categories.update(evidence, live.tolist(), candidate.tolist())
            if evidence.log_differ >= ALARM:
                raised += 1
                break
    assert raised <= 11


def test_shares_that_drift_for_both_are_no_difference():
    rng, evidence = np.random.default_rng(12), Categories.of(4)
    for i in range(400):
        p = np.array([1 + math.sin(i / 9), 1, 1, 1 + math.cos(i / 9)]) + 0.05
        p /= p.sum()
        evidence = categories.update(evidence, rng.multinomial(450, p).tolist(), rng.multinomial(50, p).tolist())
        assert evidence.log_differ < ALARM


def test_a_version_that_predicts_one_class_only_is_seen_in_three_blocks():
    rng, evidence = np.random.default_rng(13), Categories.of(10)
    constant = np.eye(10)[3]
    for live, candidate in drawn(rng, TEN, constant, blocks=3):
        evidence = categories.update(evidence, live.tolist(), candidate.tolist())
    assert evidence.log_differ >= ALARM
    assert evidence.divergence > 0.3


def test_answers_that_come_in_clumps_are_no_difference():
    """Eight rows of each caller are alike."""
    rng, raised = np.random.default_rng(20), 0
    for _ in range(150):
        evidence = Categories.of(10)
        for _ in range(120):
            live, candidate = (rng.multinomial(rng.poisson(n), TEN) * 8 for n in (56, 6))
            evidence = categories.update(evidence, live.tolist(), candidate.tolist())
            if evidence.log_differ >= ALARM and evidence.divergence >= 0.005:
                raised += 1
                break
    assert raised <= 7


def test_a_live_version_of_one_class_does_not_hide_another_class():
    evidence = Categories.of(57)
    for _ in range(6):
        evidence = categories.update(evidence, (20,) + (0,) * 56, (0, 5) + (0,) * 55)
    assert evidence.log_differ >= ALARM


def test_the_divergence_of_equal_versions_is_not_what_chance_makes_of_it():
    rng = np.random.default_rng(21)
    found = []
    for _ in range(50):
        evidence = Categories.of(10)
        for live, candidate in drawn(rng, TEN, TEN, blocks=4):
            evidence = categories.update(evidence, live.tolist(), candidate.tolist())
        found.append(evidence.divergence)
    assert np.median(found) < 0.005


def test_the_time_to_see_a_shift_is_what_was_worked_out():
    rng = np.random.default_rng(14)
    shifted = TEN * np.array([1.31] * 5 + [0.69] * 5)  # a population stability index of 0.1
    times = []
    for _ in range(60):
        evidence = Categories.of(10)
        for i, (live, candidate) in enumerate(drawn(rng, TEN, shifted), 1):
            evidence = categories.update(evidence, live.tolist(), candidate.tolist())
            if evidence.log_differ >= ALARM:
                times.append(i * 5)
                break
    assert len(times) == 60
    assert 15 <= np.median(times) <= 60


def test_outcomes_of_equal_quality_make_nobody_rich():
    rng, raised = np.random.default_rng(15), 0
    for _ in range(300):
        evidence = Betting(0.0)
        for live, candidate in rng.binomial(1, 0.9, (1000, 2)):
            evidence = betting.update(evidence, float(live), float(candidate))
            if evidence.log_harm >= ALARM:
                raised += 1
                break
    assert raised <= 10


def test_a_loss_of_quality_is_found_and_a_small_one_within_the_margin_is_shown_safe():
    rng = np.random.default_rng(16)
    worse, tolerated = Betting(0.0), Betting(0.1)
    for _ in range(1500):
        worse = betting.update(worse, float(rng.random() < 0.9), float(rng.random() < 0.8))
        tolerated = betting.update(tolerated, float(rng.random() < 0.9), float(rng.random() < 0.9))
    assert worse.log_harm >= ALARM
    assert worse.log_safe < SAFE
    assert tolerated.log_safe >= SAFE
    assert tolerated.log_harm < ALARM


def test_an_outcome_beyond_right_and_wrong_is_refused():
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        betting.update(Betting(0.0), 1.5, 0.0)


def test_only_requests_that_one_version_got_wrong_are_evidence():
    evidence = Paired()
    for _ in range(1000):
        evidence = evidence.seen(live_right=True, candidate_right=True).seen(live_right=False, candidate_right=False)
    assert evidence.log_harm == evidence.log_better == 0.0


def test_a_mirrored_candidate_that_is_wrong_where_live_is_right_is_found():
    rng, evidence, seen = np.random.default_rng(17), Paired(), 0
    while evidence.log_harm < ALARM:
        wrong = rng.random(2) < (0.01, 0.03)
        evidence, seen = evidence.seen(live_right=not wrong[0], candidate_right=not wrong[1]), seen + 1
    assert seen < 5000
    assert evidence.log_better < 0
