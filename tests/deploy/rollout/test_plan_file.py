import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from deploy.rollout.plan import BLUEGREEN, CANARY, OnHarm, Step, Watched
from deploy.rollout.plan_file import parse_plan, seconds


def test_what_is_not_written_keeps_its_default():
    assert parse_plan("strategy: canary") == CANARY
    assert parse_plan("strategy: bluegreen") == BLUEGREEN


def test_a_plan_reads_as_people_write_it():
    plan = parse_plan(
        """
        strategy: canary
        alpha: 0.02
        on_harm: freeze
        deadline: 90m
        holdback: 1 %
        steps:
          - {weight: 0.5 %, dwell: 90s}
          - {weight: 20, dwell: 5m, units: 500}
        guardrails:
          - {watched: errors, share: 0.6, objective: 0.005}
          - {watched: latency, share: 0.4, required: false}
        """
    )
    assert plan.steps == (Step(50, 90.0), Step(2000, 300.0, 500))
    assert (plan.alpha, plan.on_harm, plan.deadline, plan.holdback) == (0.02, OnHarm.FREEZE, 5400.0, 100)
    assert [g.watched for g in plan.guardrails] == [Watched.ERRORS, Watched.LATENCY]
    assert plan.guardrails[1].required is False


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("strategy: canary\nalpha: lots", 2, "alpha: expected a number"),
        ("strategy: hope", 1, "expected one of"),
        ("strategy: manual", 1, "needs no plan"),
        ("steps:\n  - {weight: 5, dwell: 2m}\n  - {weight: 150 %, dwell: 2m}", 3, "out of range"),
        ("steps:\n  - {weight: 5}", 2, "dwell is missing"),
        ("steps: 5", 1, "steps is a list"),
        ("steps:\n  - {weight: 50, dwell: 2m}\n  - {weight: 5, dwell: 2m}", 1, "grow from step to step"),
        ("alpha: 0.01\nalpha: 0.02", 2, "given twice"),
        ("allpha: 0.01", 1, "there is no 'allpha'"),
        ("guardrails:\n  - {watched: errors, share: 0.9}\n  - {watched: latency, share: 0.9}", 1, "more than 1"),
        ("guardrails:\n\n  - {watched: errors, share: 0.9, objective: 0.5}", 3, "less than 0.1"),
        ("deadline: 5m", 1, "longer than the deadline"),
        ("bake: [1, 2]", 1, "bake is a single value"),
        ("strategy: canary\n  alpha: 3", 2, "mapping values"),
        ("- a", 1, "expected a mapping"),
        ("margin: .nan", 1, "expected a number"),
    ],
)
def test_a_mistake_is_told_with_its_line(text, line, said):
    with pytest.raises(InvalidInput) as refusal:
        parse_plan(text)
    assert said in refusal.value.message
    if line > 1 or "line" in refusal.value.message:
        assert f"plan line {line}: " in refusal.value.message


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("2m", 120), ("1.5h", 5400), ("250ms", 0.25), ("30", 30)])
def test_durations_have_units(text, value):
    assert seconds(text) == value


@given(st.text(max_size=200))
def test_whatever_is_in_the_file_it_is_a_plan_or_a_sentence(text):
    try:
        parse_plan(text)
    except InvalidInput as error:
        assert error.message
