"""Judgement on learned costs."""

import pytest

from serving.batching.policy import (
    SOLO_SECONDS,
    THREAD_SECONDS,
    BisectBudget,
    CostCurve,
    Load,
    Route,
    batch_rows,
    expected_wait,
    route,
)


def curve(**seconds: float) -> CostCurve:
    made = CostCurve((1, 2, 4, 8))
    for bucket, value in seconds.items():
        made.learn(int(bucket.removeprefix("b")), value)
    return made


def test_a_bucket_is_the_smallest_that_holds_the_rows() -> None:
    assert [curve().bucket(n) for n in (1, 2, 3, 5, 8, 9)] == [1, 2, 4, 8, 8, 8]


def test_one_hiccup_changes_neither_the_plan_nor_the_place_of_a_run() -> None:
    costs = curve(b1=10e-6)
    costs.learn(1, 0.5)
    assert route(costs, 1) is Route.SOLO
    assert costs.seconds(1) < 12e-6


def test_a_model_that_really_became_slow_moves_to_the_thread_and_comes_back_when_it_is_fast_again() -> None:
    costs = curve(b1=10e-6)
    for _ in range(500):
        costs.learn(1, 5e-3)
    assert route(costs, 1) is Route.THREAD
    costs.learn(1, 12e-6)
    assert route(costs, 1) is Route.SOLO


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(SOLO_SECONDS * 0.9, Route.SOLO), (SOLO_SECONDS, Route.GATHER), (THREAD_SECONDS, Route.THREAD)],
)
def test_where_a_run_takes_place_follows_from_its_cost(seconds: float, expected: Route) -> None:
    assert route(curve(b1=seconds), 1) is expected


def test_an_unknown_bucket_is_guessed_from_the_nearest_known_one() -> None:
    assert curve(b2=1.0).seconds(8) == 4.0
    assert curve(b8=1.0).seconds(1) == 1.0


def test_a_full_smaller_bucket_goes_first_when_the_next_one_would_be_mostly_padding() -> None:
    linear = curve(b1=1.0, b2=2.0, b4=4.0, b8=8.0)
    assert batch_rows(linear, 5) == 4
    assert batch_rows(linear, 8) == 8
    flat = curve(b1=1.0, b2=1.0, b4=1.0, b8=1.0)
    assert batch_rows(flat, 5) == 5
    assert batch_rows(flat, 100) == 8


def test_the_expected_wait_is_the_rest_of_the_run_and_the_queue_at_its_best_pace() -> None:
    costs = curve(b1=1.0, b2=1.0, b4=1.0, b8=2.0)
    assert expected_wait(costs, Load(8, running_for=0.5, running_cost=2.0)) == 8 * 0.25 + 1.5
    assert expected_wait(costs, Load(0, running_for=9.0, running_cost=2.0)) == 0.0


def test_a_hang_is_twice_the_slowest_run_and_never_less_than_thirty_seconds() -> None:
    assert curve(b1=0.1).hang_after() == 30.0
    assert curve(b1=40.0).hang_after() == 80.0


def test_the_search_for_bad_rows_earns_a_tenth_and_saves_up_one_batch() -> None:
    budget = BisectBudget(8)
    assert budget.spend(32)
    assert not budget.spend(1)
    budget.earn(20)
    assert budget.spend(2)
    assert not budget.spend(1)
    budget.earn(10**6)
    assert budget.spend(32)
    assert not budget.spend(1)
