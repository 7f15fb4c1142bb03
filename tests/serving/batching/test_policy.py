"""Judgement on learned costs."""

import pytest

from serving.batching.curve import CostCurve
from serving.batching.policy import (
    COMPANY_SECONDS,
    THREAD_SECONDS,
    Route,
    SearchBudget,
    batch_rows,
    drain_seconds,
    lean_rows,
    route,
    search_seconds,
    timely_rows,
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


def flat(seconds: float) -> CostCurve:
    return curve(b1=seconds, b2=seconds, b4=seconds, b8=seconds)


def linear(seconds: float) -> CostCurve:
    return curve(b1=seconds, b2=2 * seconds, b4=4 * seconds, b8=8 * seconds)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        (flat(COMPANY_SECONDS * 0.9), Route.SOLO),
        (flat(COMPANY_SECONDS * 1.5), Route.GATHER),
        (linear(COMPANY_SECONDS * 1.5), Route.SOLO),  # sharing a run would save nothing
        (linear(THREAD_SECONDS * 0.99), Route.SOLO),
        (flat(THREAD_SECONDS), Route.THREAD),
        (linear(THREAD_SECONDS), Route.THREAD),
    ],
)
def test_where_a_run_takes_place_follows_from_its_cost_and_from_what_company_would_save(
    costs: CostCurve, expected: Route
) -> None:
    assert route(costs, 1) is expected


def test_an_unknown_bucket_is_guessed_from_the_nearest_known_one() -> None:
    assert curve(b2=1.0).seconds(8) == 4.0
    assert curve(b8=1.0).seconds(1) == 1.0


def test_where_company_saves_nothing_rows_go_one_by_one_and_answer_sooner() -> None:
    assert batch_rows(linear(1.0), 5, load=0.5) == 1
    assert batch_rows(flat(1.0), 5, load=0.5) == 5
    assert batch_rows(flat(1.0), 100, load=0.5) == 8


def test_the_more_arrives_the_more_a_saving_counts() -> None:
    saving = curve(b1=2.0, b2=3.0, b4=5.0, b8=9.0)
    assert [batch_rows(saving, 8, load) for load in (0.0, 0.9)] == [4, 8]


def test_a_bucket_that_would_be_mostly_padding_waits_for_a_full_smaller_one() -> None:
    saving = curve(b1=2.0, b2=3.0, b4=5.0, b8=9.0)
    assert batch_rows(saving, 5, load=0.9) == 4
    assert batch_rows(saving, 7, load=0.9) == 7


def test_a_model_that_is_slower_in_big_batches_gets_the_best_size_however_many_wait() -> None:
    worse = curve(b1=1.0, b2=1.6, b4=2.4, b8=8.0)
    assert [batch_rows(worse, n) for n in (3, 6, 8, 100)] == [3, 4, 4, 4]
    assert drain_seconds(worse, 9) == 2.4 + 2.4 + 1.0


def test_the_lean_run_is_the_smallest_that_is_nearly_as_efficient_as_the_best() -> None:
    assert [lean_rows(costs) for costs in (flat(1.0), linear(1.0))] == [8, 1]
    assert lean_rows(curve(b1=1.0, b2=1.6, b4=2.9, b8=5.6)) == 4


def test_a_run_is_small_enough_to_end_in_time_where_that_costs_others_next_to_nothing() -> None:
    assert [timely_rows(linear(1.0), 8, patience) for patience in (9.0, 5.0, 1.5)] == [8, 4, 1]
    saving = curve(b1=2.0, b2=2.8, b4=5.0, b8=9.5)
    assert [timely_rows(saving, 8, patience) for patience in (9.0, 4.0)] == [4, 8]


def test_a_run_that_is_in_time_at_no_size_is_as_big_as_it_was_to_be() -> None:
    assert timely_rows(linear(1.0), 8, 0.5) == 8
    assert timely_rows(flat(1.0), 5, 0.5) == 5


def test_a_hang_is_twice_the_slowest_run_and_never_less_than_thirty_seconds() -> None:
    assert curve(b1=0.1).hang_after() == 30.0
    assert curve(b1=40.0).hang_after() == 80.0


def test_searching_a_batch_for_bad_rows_costs_at_most_all_of_its_halves() -> None:
    assert search_seconds(flat(1.0), 8) == 2 + 4 + 8
    assert search_seconds(linear(1.0), 8) == 8 + 8 + 8
    assert search_seconds(flat(1.0), 1) == 0


def test_batches_shrink_to_what_could_still_be_searched_and_grow_again_as_a_tenth_comes_back() -> None:
    budget = SearchBudget(flat(1.0))
    assert budget.company() == 8
    budget.spend(14)
    assert budget.company() == 8
    budget.spend(10)
    assert budget.company() == 2
    budget.spend(4)
    assert budget.company() == 1
    budget.earn(21)
    assert budget.company() == 2
    budget.earn(10**6)
    assert budget.company() == 8
