"""Health by progress: what is concluded from answers and from silence."""

from functools import reduce

from deploy.fleet.health import Answer, Health, HealthRules, observed, pause_after, verdict

RULES = HealthRules()
READY, NOT_READY, SILENT = Answer.READY, Answer.NOT_READY, Answer.SILENT


def after(*answers: Answer) -> Health:
    return reduce(lambda health, answer: observed(health, answer, RULES), answers, Health())


def test_one_answer_missed_is_forgiven_and_two_are_not():
    assert after(READY, SILENT).ready
    assert not after(READY, SILENT, SILENT).ready


def test_a_process_that_answers_again_is_ready_again():
    assert after(READY, *[SILENT] * 10, READY) == after(READY)


def test_saying_no_takes_a_process_out_at_once_and_never_ends_it():
    health = after(READY, *[NOT_READY] * 100)
    assert not health.ready
    assert verdict(health, starting_for=1e6, rules=RULES) is None


def test_thirty_unanswered_questions_end_a_process_that_was_ready():
    assert verdict(after(READY, *[SILENT] * 29), 1e6, RULES) is None
    assert verdict(after(READY, *[SILENT] * 30), 1e6, RULES) == "gave no answer to 30 health checks in a row"


def test_silence_while_loading_is_no_fault_until_the_time_to_start_is_over():
    loading = after(*[SILENT] * 5000)
    assert verdict(loading, RULES.start_seconds - 1, RULES) is None
    assert verdict(loading, RULES.start_seconds, RULES) == "was not ready after 300 s"


def test_a_silent_process_is_noticed_between_two_and_three_seconds():
    """Questions are asked at a fixed rate: an unanswered one has used up its second already."""
    slowest = (
        RULES.check_seconds + RULES.suspect_after * RULES.answer_seconds + pause_after(after(READY, SILENT), 1.0, RULES)
    )
    assert slowest <= 3.0


def test_a_starting_process_is_asked_often_and_a_ready_one_at_a_fixed_rate():
    assert pause_after(Health(), 0.01, RULES) == RULES.poll_seconds
    assert pause_after(after(READY), 0.25, RULES) == 0.75
    assert pause_after(after(READY), 7.0, RULES) == 0.0


def test_it_is_settled_once_it_answered_or_kept_silent_twice():
    settled = [
        h.settled(RULES) for h in (after(), after(SILENT), after(NOT_READY), after(READY), after(SILENT, SILENT))
    ]
    assert settled == [False, False, True, True, True]


def test_an_adopted_process_gets_time_to_answer_however_old_it_is():
    assert RULES.counted_age(10.0) == 10.0
    assert RULES.counted_age(1e9) == RULES.start_seconds - 30.0
