"""Who may queue."""

from typing import Any

import pytest

from contracts.errors import Overloaded
from contracts.limits import LIMITS
from serving.batching.admission import Experience, Gate, Standing, finish_seconds, longest_finish, rest_seconds
from serving.batching.curve import CostCurve
from serving.batching.policy import HOP_SECONDS


def linear(seconds: float) -> CostCurve:
    made = CostCurve((1, 2, 4, 8))
    for bucket in made.buckets:
        made.learn(bucket, seconds * bucket)
    return made


def flat(seconds: float) -> CostCurve:
    made = CostCurve((1, 2, 4, 8))
    for bucket in made.buckets:
        made.learn(bucket, seconds)
    return made


def test_what_waits_takes_the_runs_it_will_be_cut_into_and_the_way_to_each() -> None:
    assert finish_seconds(flat(1.0), 17) == pytest.approx(3 * (1.0 + HOP_SECONDS))
    assert finish_seconds(linear(1.0), 3) == pytest.approx(3 * (1.0 + HOP_SECONDS))


def test_rows_that_cannot_share_a_run_take_one_for_each_kind() -> None:
    assert finish_seconds(flat(1.0), 8, lines=5) == pytest.approx(5 * (1.0 + HOP_SECONDS))


def test_a_run_that_is_overdue_is_expected_to_last_as_long_again() -> None:
    assert [rest_seconds(2.0, running_for) for running_for in (0.5, 2.0, 5.0)] == [1.5, 0.0, 3.0]


def test_a_burst_may_use_nearly_all_of_its_time_and_a_standing_queue_half() -> None:
    assert longest_finish(flat(0.01), 1.0, 10.0, standing=False) == pytest.approx(9.0)
    assert longest_finish(flat(0.01), 1.0, 10.0, standing=True) == pytest.approx(5.0)


def test_the_next_run_fits_behind_the_one_in_progress_however_the_queue_stands_and_however_slow_runs_are() -> None:
    two_runs = 2 * (1.0 + HOP_SECONDS)
    assert longest_finish(flat(1.0), 1.0, 3.0, standing=True) == pytest.approx(two_runs)
    assert longest_finish(flat(1.0), 2.0, 6.0, standing=True) == pytest.approx(2 * two_runs)
    assert longest_finish(flat(1.0), 1.0, 2.0, standing=True) == pytest.approx(1.8)


def test_a_queue_stands_when_even_the_last_to_join_have_waited_for_an_interval() -> None:
    standing = Standing()
    for now in (0.0, 0.06):
        standing.began(now, 0.02)
        assert not standing.lasts(now)
    standing.began(0.12, 0.02)
    assert standing.lasts(0.12)
    standing.began(0.13, 0.0)
    assert not standing.lasts(0.13)


def test_a_queue_that_is_too_long_for_somebody_stands_until_nobody_was_refused_for_a_while() -> None:
    standing = Standing()
    standing.refused(0.0, wait=0.01)
    assert not standing.lasts(0.0), "that one was in too great a hurry"
    standing.refused(0.0, wait=0.2)
    standing.began(0.2, 0.0)
    assert standing.lasts(0.2)
    assert not standing.lasts(0.25)


def test_answers_that_take_longer_than_expected_are_remembered_and_forgotten_again() -> None:
    experience = Experience()
    for _ in range(20):
        experience.learn(0.1, 0.2)
    assert experience.factor == pytest.approx(1.95, abs=0.01)
    for _ in range(60):
        experience.learn(0.1, 0.1)
    assert experience.factor < 1.01


def test_one_stall_does_not_close_the_gate() -> None:
    experience = Experience()
    experience.learn(0.01, 30.0)
    assert experience.factor < 2.0


def test_whoever_would_be_late_is_refused_and_told_when_to_come_back() -> None:
    gate = Gate(LIMITS)
    asked: dict[str, Any] = {"curve": flat(0.1), "rows": 1, "now": 0.0}
    assert gate.refusal(expected=0.44, patience=0.5, **asked) is None
    refusal = gate.refusal(expected=0.46, patience=0.5, **asked)
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after is not None
    assert refusal.retry_after >= 1
    for _ in range(20):
        gate.ended(0.1, 0.2)
    assert gate.refusal(expected=0.44, patience=0.5, **asked) is not None
