"""Every state of a rollout by evidence answers everything that can be seen, as the table says."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter

from contracts.metrics import LATENCY_SECONDS, PREDICTION_BIN_COUNT
from contracts.traffic import TOTAL
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Bins, Compared, Counted
from deploy.rollout.deployment import TRIED, Deployment, State, from_text, to_text
from deploy.rollout.events import Health, Observation
from deploy.rollout.plan import CANARY, DEFAULT_GUARDRAILS, SHADOW, Guardrail, Step, Strategy, Watched
from deploy.rollout.rules import decide
from deploy.rollout.trial import Stage
from tests.deploy.rollout.simulated import look, started

TRIALS = TRIED | {State.CANARY}
GUARDRAILS = (*DEFAULT_GUARDRAILS[:1], *DEFAULT_GUARDRAILS[4:])  # errors, and predictions that may differ
PLAN = replace(
    CANARY, guardrails=GUARDRAILS, steps=(Step(1000, 60.0), Step(5000, 60.0)), mirror=1000, mirror_for=60.0, bake=60.0
)
CALM = Counted(Block(Arm(900, 1), Arm(100, 0)), Block(Arm(900, 0), Arm(100, 0)))
OTHERWISE = Bins((50, 50, *(0,) * 55), (0, 50, 50, *(0,) * 54))
assert len(OTHERWISE.live) == PREDICTION_BIN_COUNT


def at(state: State, step: int = 0) -> Deployment:
    """A rollout in this state, at its first step where it has one; of CANARY also the last."""
    d = started(PLAN)
    assert d.trial is not None
    stage = {State.SHADOW: Stage.SHADOW, State.BAKING: Stage.BAKING}.get(state, Stage.CANARY)
    trial = d.trial.begun(stage, step if stage is Stage.CANARY else len(PLAN.steps) - 1)
    return replace(d, state=state, weight=trial.weight, trial=trial)


def calm(d: Deployment) -> Counted:
    """Requests divided as the weights say, nothing wrong with any of them."""
    there = d.weight // 10 if d.weight else 100
    return replace(CALM, errors=Block(Arm(1000 - there, 0), Arm(there, 0)))


def after_waiting(d: Deployment, **facts: float) -> Deployment:
    assert d.trial is not None
    return replace(d, trial=replace(d.trial, **facts))  # type: ignore[arg-type]


def over(d: Deployment) -> Deployment:
    """Its time in this step is over, and everything is shown that has to be."""
    for _ in range(10):
        assert d.trial is not None
        d = replace(d, trial=replace(d.trial.saw(calm(d), in_force=True), units=1000))
    return after_waiting(d, dwelt=100.0)


def differing(d: Deployment) -> Deployment:
    for _ in range(8):
        assert d.trial is not None
        d = replace(d, trial=d.trial.saw(replace(calm(d), predictions=OTHERWISE), in_force=True))
    return d


def failing(here: int, there: int, **facts: Any) -> Observation:
    """So many of 900 and of 100 requests."""
    return look(Counted(Block(Arm(900, here), Arm(100, there)), CALM.batches), **facts)


DOWN = Health()
# event → what has become of the deployment before, and what is seen then
EVENTS: Mapping[str, tuple[Callable[[Deployment], Deployment], Callable[[Deployment], Observation]]] = {
    "nothing new": (lambda d: d, lambda _: look(None)),
    "calm": (lambda d: d, lambda d: look(calm(d))),
    "time in the step is over": (over, lambda d: look(calm(d))),
    "the same, not acknowledged": (over, lambda d: look(calm(d), in_force=False)),
    "harm": (lambda d: d, lambda _: failing(0, 50)),
    "suspicion": (lambda d: d, lambda _: failing(1, 2)),
    "differs": (differing, lambda d: look(calm(d))),
    "live sick": (lambda d: d, lambda _: failing(300, 1)),
    "both sick": (lambda d: d, lambda _: failing(300, 33)),
    "candidate down": (lambda d: d, lambda _: look(None, candidate=DOWN)),
    "live down": (lambda d: d, lambda _: look(None, live=DOWN)),
    "both down": (lambda d: d, lambda _: look(None, live=DOWN, candidate=DOWN)),
    "blind": (lambda d: after_waiting(d, unseen=60.0), lambda _: look(None)),
    "overdue": (lambda d: after_waiting(d, age=1e5), lambda d: look(calm(d))),
    "paused too long": (lambda d: after_waiting(d, paused=1e6), lambda d: look(calm(d))),
    "harm, live down": (lambda d: d, lambda _: failing(0, 50, live=DOWN)),
}


def seen(event: str, d: Deployment) -> tuple[Deployment, Observation]:
    become, glance = EVENTS[event]
    before = become(d)
    return before, glance(before)


S, C, H, B, P, I, K, R = (  # noqa: E741
    State.SHADOW,
    State.CANARY,
    State.HOLD,
    State.BLIND,
    State.PAUSED,
    State.INCONCLUSIVE,
    State.BAKING,
    State.ROLLED_BACK,
)
STATES = (S, C, H, B, P, I, K)
# event → the state that each of STATES leads to
EXPECTED: Mapping[str, tuple[State, ...]] = {
    "nothing new": (S, C, H, B, P, I, K),
    "calm": (S, C, C, C, P, I, K),
    "time in the step is over": (C, C, C, C, P, I, State.PROMOTED),
    "the same, not acknowledged": (S, C, C, C, P, I, K),
    "harm": (R, R, R, R, R, R, R),
    "suspicion": (S, H, H, H, P, I, H),
    "differs": (S, H, H, H, P, I, H),
    "live sick": (S, H, H, H, P, I, H),
    "both sick": (S, H, H, H, P, I, H),
    "candidate down": (R, R, R, R, R, R, R),
    "live down": (S, H, H, H, P, I, H),
    "both down": (S, H, H, H, P, I, H),
    "blind": (S, B, B, B, P, I, B),
    "overdue": (I, I, I, I, P, I, I),
    "paused too long": (S, C, C, C, I, I, K),
    "harm, live down": (S, H, H, H, P, I, H),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EXPECTED)
def test_every_state_answers_everything_that_is_seen_as_the_table_says(state: State, event: str) -> None:
    before, observation = seen(event, at(state))
    expected = EXPECTED[event][STATES.index(state)]
    decision = decide(before, observation, 0.0)
    assert decision.deployment.state is expected, decision.reason
    assert decision.reason
    moved = decision.deployment.revision - before.revision
    assert moved == (decision.action is not None)
    # Standing still never changes a weight, and going back always takes all of it.
    if expected is R:
        assert decision.deployment.weight == 0
    elif event != "time in the step is over" and expected in (H, B, P, I):
        assert decision.deployment.weight == before.weight


def test_the_table_is_complete() -> None:
    assert set(STATES) == TRIALS
    assert set(EXPECTED) == set(EVENTS)


def test_the_last_step_leads_to_the_switch_once_everything_is_shown() -> None:
    d, observation = seen("time in the step is over", at(State.CANARY, 1))
    after = decide(d, observation, 0.0).deployment
    assert (after.state, after.weight) == (State.BAKING, TOTAL - PLAN.holdback)
    unproven = decide(after_waiting(at(State.CANARY, 1), dwelt=100.0, units=1000), observation, 0.0)
    assert (unproven.action, unproven.deployment.weight) == (None, 5000)
    assert "not yet shown to be no worse: errors" in unproven.reason


def test_no_state_moves_ahead_in_the_first_look_of_a_process() -> None:
    for state in STATES:
        d, observation = seen("time in the step is over", at(state))
        after = decide(d, replace(observation, seconds=0.0), 0.0).deployment
        assert after.weight == d.weight


ARMS = st.integers(0, 300).flatmap(lambda n: st.builds(Arm, st.just(n), st.integers(0, n)))
BLOCKS = st.builds(Block, ARMS, ARMS)
BINS = st.lists(st.integers(0, 40), min_size=PREDICTION_BIN_COUNT, max_size=PREDICTION_BIN_COUNT).map(tuple)
OUTCOMES = st.sampled_from([0.0, 0.25, 1.0])
COUNTED = st.builds(
    Counted,
    BLOCKS,
    BLOCKS,
    st.one_of(st.just(()), st.lists(BLOCKS, min_size=len(LATENCY_SECONDS), max_size=len(LATENCY_SECONDS)).map(tuple)),
    st.one_of(st.just(Bins()), st.builds(Bins, BINS, BINS)),
    st.lists(st.tuples(OUTCOMES, OUTCOMES), max_size=5).map(tuple),
    st.builds(Compared, st.integers(0, 50), st.integers(0, 50)),
    partial=st.sampled_from(["", "", "engine runs are not counted"]),
)
WATCHED = st.sampled_from(
    [
        PLAN,
        replace(SHADOW, mirror_for=20.0),
        replace(PLAN, mirror=0, guardrails=tuple(Guardrail(w, 0.1, objective=0.01) for w in Watched)),
        replace(PLAN, mirror=0, absolute_slo_guard=True, blind_after=30.0, deadline=600.0),
    ]
)


def glances(counted: st.SearchStrategy[Counted | None]) -> st.SearchStrategy[list[Observation]]:
    ready = st.sampled_from([Health(ready=1), Health(ready=1), Health(ready=1), Health()])
    return st.lists(
        st.builds(look, counted, live=ready, candidate=ready, seconds=st.floats(0, 60), in_force=st.booleans()),
        max_size=40,
    )


@settings(max_examples=60, deadline=None)
@given(plan=WATCHED, glances=glances(st.none()))
def test_without_counts_nothing_is_ever_promoted_or_advanced_or_rolled_back_for_what_was_measured(
    plan: object, glances: list[Observation]
) -> None:
    d = started(plan)  # type: ignore[arg-type]
    weight = d.weight
    for observation in glances:
        d = decide(d, observation, 0.0).deployment
        if d.state is State.ROLLED_BACK:
            assert observation.candidate.ready == 0
            assert observation.live.ready
            return
        assert d.state is not State.PROMOTED
        assert d.weight == weight


_GLANCES: TypeAdapter[list[Observation] | None] = TypeAdapter(
    list[Observation] | None, config=ConfigDict(ser_json_inf_nan="constants")
)


@settings(max_examples=60, deadline=None)
@given(plan=WATCHED, glances=glances(st.one_of(st.none(), COUNTED, COUNTED)))
def test_weights_stay_legal_and_a_replay_from_json_ends_the_same_to_the_last_bit(
    plan: object, glances: list[Observation]
) -> None:
    d = again = started(plan)  # type: ignore[arg-type]
    written = _GLANCES.validate_json(_GLANCES.dump_json(glances))
    assert written is not None
    for observation, recorded in zip(glances, written, strict=True):
        d = decide(d, observation, 0.0).deployment
        assert 0 <= d.weight <= TOTAL
        if d.state in TRIALS and d.trial is not None and d.state not in (State.PAUSED, State.INCONCLUSIVE):
            assert d.weight == d.trial.weight
        assert d.strategy is not Strategy.SHADOW or d.weight == 0
        again = decide(from_text(to_text(again)), recorded, 0.0).deployment
        assert to_text(again) == to_text(d)
        if d.trial is not None:
            assert not any(math.isnan(f.log_harm) for f in d.trial.findings)
