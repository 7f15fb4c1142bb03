import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.evidence.counters import Fact, GapKind, Series, Told, Uncounted, grown, was_reset

ANSWERED = Series(Fact.ANSWERED)


def told(counts: dict[Series, float], life: float = 0.0) -> Told:
    return Told(0.0, life, counts)


def test_a_counter_that_fell_was_reset_and_counts_from_there():
    before, after = told({ANSWERED: 100.0}), told({ANSWERED: 7.0})
    assert grown(before, after) == {ANSWERED: 7}
    assert was_reset(before, after)


def test_a_process_that_took_anothers_place_began_at_zero_even_when_it_has_counted_more_since():
    before, after = told({ANSWERED: 3.0}, life=60.0), told({ANSWERED: 50.0}, life=1.0)
    assert grown(before, after) == {ANSWERED: 50}
    assert was_reset(before, after)


def test_a_series_that_appears_counted_nothing_before_because_its_process_was_there():
    assert grown(told({}), told({ANSWERED: 3.0})) == {ANSWERED: 3}


def test_one_reset_among_many_series_is_not_hidden_by_their_sum():
    one, other = Series(Fact.ANSWERED, cluster="a"), Series(Fact.ANSWERED, cluster="b")
    assert grown(told({one: 1000.0, other: 1000.0}), told({one: 5.0, other: 1999.0})) == {one: 5, other: 999}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e308, 0.5])
@pytest.mark.parametrize("wrong", ["before", "after"])
def test_what_is_no_count_is_a_gap_and_never_a_zero(value, wrong):
    ends = {"before": 1.0, "after": 2.0, wrong: value}
    with pytest.raises(Uncounted) as raised:
        grown(told({ANSWERED: ends["before"]}), told({ANSWERED: ends["after"]}))
    assert raised.value.gap.kind is GapKind.NO_COUNT
    assert "answered" in raised.value.gap.reason


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.data())
def test_every_unit_is_counted_once_however_often_one_looks_and_wherever_it_restarts(growth, data):
    total, seen, shown, life, before = 0, 0, 0, 100.0, told({ANSWERED: 0.0}, 100.0)
    for step in growth:
        if data.draw(st.booleans()):
            shown, life = 0, life - 1  # the process was replaced since the last look
        shown, total = shown + step, total + step
        after = told({ANSWERED: float(shown)}, life)
        seen += grown(before, after)[ANSWERED]
        before = after
    assert seen == total
