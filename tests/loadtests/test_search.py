"""The search is fair to the opponent, and the share of traffic at the same p99 means what it says."""

import math
from collections.abc import Callable

import pytest

from loadtests.search import GRID, NO_BATCHING, best, throughput_at
from loadtests.static_batcher import Knobs


def test_no_batching_is_among_the_settings_tried():
    assert NO_BATCHING in GRID
    assert len(set(GRID)) == len(GRID)


def test_the_lowest_p99_wins_and_between_equals_the_smaller_setting():
    p99 = {Knobs(64, 0.0): 0.002, Knobs(4, 0.005): 0.002, Knobs(4, 0.0): 0.002, Knobs(16, 0.0): 0.003}
    assert best(p99) == Knobs(4, 0.0)
    assert best({**p99, Knobs(16, 0.0): 0.001}) == Knobs(16, 0.0)


def saturating(most: float) -> Callable[[float], float]:
    """A queue whose p99 is 1 up to a share of the rate and grows without end beyond it."""
    return lambda share: 1.0 if share <= most else math.inf


@pytest.mark.parametrize(
    ("most", "share"), [(2.0, 1.05), (1.05, 1.05), (1.04, 1.0), (0.99, 0.95), (0.91, 0.9), (0.7, 0.6), (0.1, 0.0)]
)
def test_the_share_is_the_largest_step_that_holds(most: float, share: float):
    assert throughput_at(saturating(most), 1.0) == share


def test_within_ten_per_cent_is_the_same_p99():
    assert throughput_at(lambda share: 1.09, 1.0) == 1.05
    assert throughput_at(lambda share: 1.11, 1.0) == 0.0


def test_no_rate_is_measured_that_cannot_change_the_answer():
    asked: list[float] = []

    def p99(share: float) -> float:
        asked.append(share)
        return 1.0 if share <= 0.95 else 2.0

    assert throughput_at(p99, 1.0) == 0.95
    assert asked == [1.0, 0.95]
