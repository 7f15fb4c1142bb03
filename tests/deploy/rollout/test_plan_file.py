from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from deploy.rollout.plan import BLUEGREEN, CANARY, DEFAULTS, Guardrail, OnHarm, Plan, Step, Strategy, Watched
from deploy.rollout.plan_file import parse_plan, plan_from_json, plan_to_json, plan_to_yaml, seconds


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


PLANS = st.builds(
    Plan,
    strategy=st.sampled_from([Strategy.CANARY, Strategy.BLUEGREEN]),
    steps=st.lists(st.integers(1, 9000), min_size=1, max_size=4, unique=True).map(
        lambda weights: tuple(Step(w, 1.5 * w, w % 7) for w in sorted(weights))
    ),
    guardrails=st.just(
        (
            Guardrail(Watched.QUALITY, 0.3, loss=0.01, dispersion=1.5),
            Guardrail(Watched.PREDICTIONS, 0.25, required=False, on_harm=OnHarm.ROLLBACK, min_jsd_bits=0.02),
        )
    ),
    alpha=st.floats(1e-6, 0.49),
    deadline=st.floats(1e5, 1e9),
    bake=st.floats(0, 1e4),
    mirror=st.integers(0, 10_000),
    absolute_slo_guard=st.booleans(),
    holdback=st.integers(0, 1000),
)


@given(PLANS)
def test_a_plan_that_is_written_reads_as_the_same_one(plan):
    assert parse_plan(plan_to_yaml(plan)) == plan
    assert plan_from_json(plan_to_json(plan)) == plan


@pytest.mark.parametrize("plan", DEFAULTS.values(), ids=lambda plan: plan.strategy)
def test_every_field_of_a_plan_can_be_written(plan):
    written = plan_to_json(plan)
    assert set(written) == {f.name for f in fields(Plan)}
    assert {key for each in written["guardrails"] for key in each} | {"objective", "on_harm", "tolerance"} == {
        f.name for f in fields(Guardrail)
    }
    assert parse_plan(plan_to_yaml(plan)) == plan


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"steps": [{"weight": 5, "dwell": "2m"}, {"weight": 150, "dwell": "2m"}]}, "plan.steps[1]: weight 150"),
        ({"steps": [{"weight": 5, "dwell": None}]}, "plan.steps[0]: dwell: expected a duration"),
        ({"guardrails": [{"watched": "errors"}]}, "plan.guardrails[0]: share is missing"),
        ({"allpha": 0.01}, "plan: there is no 'allpha'"),
        ({"alpha": {}}, "plan.alpha: alpha is a single value"),
        ({"alpha": 0.9}, "plan: alpha and beta"),
        ({"a": [[[[[[]]]]]] * 3}, "plan: there is no 'a'"),
    ],
)
def test_a_mistake_in_json_is_told_with_its_place(value, said):
    with pytest.raises(InvalidInput) as refusal:
        plan_from_json(value)
    assert refusal.value.message.startswith(said)
