import numpy as np

from deploy.evidence.blocks import Arm
from deploy.evidence.illness import WELL


def test_a_version_that_fails_a_third_of_its_requests_is_sick_within_a_few_and_well_again_within_some_hundred() -> None:
    now = WELL.update(Arm(20, 7))
    assert now.sick
    assert now.said == "35 % of its requests"
    assert now.update(Arm(50, 0)).sick, "fifty good requests may be luck"
    assert not now.update(Arm(200, 0)).sick


def test_a_version_that_fails_now_and_then_is_not_sick() -> None:
    rng, now = np.random.default_rng(1), WELL
    for _ in range(2000):
        now = now.update(Arm(60, int(rng.binomial(60, 0.02))))
        assert not now.sick


def test_a_long_illness_is_over_as_soon_as_a_short_one() -> None:
    now = WELL
    for _ in range(1000):
        now = now.update(Arm(100, 30))
    assert not now.update(Arm(200, 0)).sick


def test_without_requests_nothing_is_known_and_nothing_changes() -> None:
    assert WELL.update(Arm(0, 0)) == WELL
    assert WELL.said == "no requests yet"
