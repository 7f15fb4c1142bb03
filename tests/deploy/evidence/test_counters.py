import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.evidence.blocks import Arm
from deploy.evidence.counters import Fact, Gap, Series, counted, grown


def at(fact: Fact, source: str = "envoy", bound: int = -1) -> Series:
    return Series(fact, source, bound)


ANSWERED = at(Fact.ANSWERED)


def test_a_counter_that_fell_was_reset_and_counts_from_there():
    assert grown({ANSWERED: 100.0}, {ANSWERED: 7.0}) == {ANSWERED: 7}


def test_a_new_process_began_at_zero_and_one_that_is_gone_adds_nothing():
    old, new = at(Fact.BATCHES, "worker 1"), at(Fact.BATCHES, "worker 2")
    assert grown({old: 50.0}, {new: 3.0}) == {new: 3}


def test_one_reset_among_many_series_is_not_hidden_by_their_sum():
    a, b = at(Fact.BATCHES, "a"), at(Fact.BATCHES, "b")
    assert grown({a: 1000.0, b: 1000.0}, {a: 5.0, b: 1999.0}) == {a: 5, b: 999}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_is_no_count_is_a_gap_and_never_a_zero(value):
    gap = grown({ANSWERED: 1.0}, {ANSWERED: value})
    assert isinstance(gap, Gap)
    assert "answered" in gap.reason


def test_failures_nobody_saw_count_and_what_callers_got_wrong_does_not():
    live = {ANSWERED: 110, at(Fact.REFUSED): 10, at(Fact.FAILED): 1, at(Fact.SAVED): 4}
    both = counted(live, {}, 0)
    assert both.errors.live == Arm(100, 5)
    assert both.errors.candidate == Arm(0, 0)


def test_durations_become_requests_slower_than_each_bound():
    live = {at(Fact.TIMED): 10, at(Fact.WITHIN, bound=0): 2, at(Fact.WITHIN, bound=1): 9}
    both = counted(live, live, 2)
    assert [block.candidate for block in both.slower] == [Arm(10, 8), Arm(10, 1)]


def test_counters_that_contradict_each_other_are_a_gap():
    gap = counted({ANSWERED: 10, at(Fact.FAILED): 50}, {}, 0)
    assert isinstance(gap, Gap)
    assert counted({ANSWERED: 10, at(Fact.FAILED): 12}, {}, 0).errors.live == Arm(10, 10)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.data())
def test_every_unit_is_counted_once_however_often_one_looks_and_wherever_it_restarts(growth, data):
    total, shown, seen, before = 0, 0, 0, {}
    for step in growth:
        if data.draw(st.booleans()):
            shown = 0  # the process was replaced since the last look
            if step < before.get(ANSWERED, 0):
                total, shown = total + step, step
            else:
                shown, total = step, total + step - int(before.get(ANSWERED, 0))  # a fast one cannot be told apart
        else:
            shown, total = shown + step, total + step
        after = {ANSWERED: float(shown)}
        seen += grown(before, after)[ANSWERED]
        before = after
    assert seen == total
