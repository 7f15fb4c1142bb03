"""When a dead process is started again, and when nobody tries any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.worker import EXIT_BAD_PACKAGE
from deploy.fleet.backoff import Death, GiveUp, History, RestartRules, StartAgain, after_death, wait_before_start

RULES = RestartRules()
MIDDLE = 0.5  # a roll that leaves the wait as it is


def death(at: float, lived: float = 0.1, code: int | None = 1, was_ready: bool = False) -> Death:
    return Death(at, lived, code, was_ready, "worker digits/2 exited with code 1")


def waits(deaths: list[Death]) -> list[float | str]:
    history, found = History(), []
    for each in deaths:
        history, step = after_death(history, each, MIDDLE, RULES)
        found.append(step.wait if isinstance(step, StartAgain) else step.reason)
    return found


def test_waits_double_from_a_fifth_of_a_second_to_half_a_minute():
    ready = [death(at=100.0 * n, lived=1.0, was_ready=True) for n in range(10)]
    assert waits(ready) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_stable_life_starts_the_waits_over():
    deaths = [death(0.0, was_ready=True), death(1.0, was_ready=True), death(20.0, lived=10.0, was_ready=True)]
    assert waits(deaths) == [0.2, 0.4, 0.2]


def test_a_long_life_without_ever_being_ready_is_not_a_stable_one():
    assert waits([death(0.0, lived=300.0), death(310.0, lived=300.0)]) == [0.2, 0.4]


@given(in_a_row=st.integers(1, 5000), roll=st.floats(0, 1, exclude_max=True))
def test_jitter_moves_a_wait_by_half_of_it_at_most(in_a_row: int, roll: float):
    wait = wait_before_start(in_a_row, roll, RULES)
    middle = wait_before_start(in_a_row, MIDDLE, RULES)
    assert 0.5 * middle <= wait <= 1.5 * middle
    assert 0.1 <= wait <= 45.0


def test_five_failed_starts_in_a_minute_open_the_breaker_and_say_so():
    *_, last = waits([death(float(n)) for n in range(5)])
    assert last == "worker digits/2 exited with code 1; died 5 times in 4 s without getting ready"


def test_failed_starts_spread_over_more_than_a_minute_do_not_open_the_breaker():
    assert all(isinstance(w, float) for w in waits([death(16.0 * n) for n in range(20)]))


def test_deaths_after_being_ready_never_open_the_breaker():
    """Somebody who can make a worker die must not be able to keep the model down."""
    assert all(isinstance(w, float) for w in waits([death(float(n), code=-9, was_ready=True) for n in range(50)]))


def test_a_machine_that_cannot_start_processes_is_waited_for():
    """No memory or no descriptors left passes; a worker that could never be tried is not a broken one."""
    never_ran = [
        Death(float(n), 0.0, None, was_ready=False, reason="could not be started", ran=False) for n in range(50)
    ]
    assert all(isinstance(w, float) for w in waits(never_ran))


def test_a_package_that_does_not_load_is_given_up_at_once():
    _, step = after_death(History(), death(0.0, code=EXIT_BAD_PACKAGE), MIDDLE, RULES)
    assert isinstance(step, GiveUp)
    assert "register a version that loads" in step.reason


@pytest.mark.parametrize("code", [0, 1, 2, -9, -11, None])
def test_any_other_end_is_tried_again(code: int | None):
    _, step = after_death(History(), death(0.0, code=code), MIDDLE, RULES)
    assert isinstance(step, StartAgain)


def test_what_is_tried_patiently_is_given_up_only_before_it_was_ever_ready():
    rules = RestartRules(patient=True, hopeless=frozenset(), deaths=3)

    def steps(*deaths: Death) -> list[type]:
        history, found = History(), []
        for each in deaths:
            history, step = after_death(history, each, MIDDLE, rules)
            found.append(type(step))
        return found

    failed = [death(float(n), code=EXIT_BAD_PACKAGE) for n in range(3)]
    assert steps(*failed) == [StartAgain, StartAgain, GiveUp]
    assert steps(death(0.0, was_ready=True), *failed * 50) == [StartAgain] * 151
