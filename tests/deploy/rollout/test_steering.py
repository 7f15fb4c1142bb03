"""What a rollout by evidence makes of what it sees, tick by tick: each test is a story of counts."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from contracts.errors import Conflict
from contracts.metrics import PREDICTION_BIN_COUNT
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Bins, Compared, Counted
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Command, Deploy, Extend, Health, Observation, Order, Plain, Verb, Weight
from deploy.rollout.plan import (
    BLUEGREEN,
    CANARY,
    SHADOW,
    Guardrail,
    OnBlind,
    OnHarm,
    Plan,
    Step,
    Strategy,
    Watched,
)
from deploy.rollout.rules import decide
from tests.deploy.rollout.simulated import TICK, look, started

ERRORS = Guardrail(Watched.ERRORS, 0.5, objective=0.001)
QUICK = Plan(Strategy.CANARY, steps=(Step(1000, 10.0), Step(5000, 10.0)), guardrails=(ERRORS,), bake=10.0)
WELL = Health(ready=1)


def counts(live: tuple[int, int], candidate: tuple[int, int], **more: Any) -> Counted:
    """(requests, failures) of both versions."""
    both = Block(Arm(*live), Arm(*candidate))
    return Counted(both, Block(Arm(live[0], 0), Arm(candidate[0], 0)), **more)


def fair(d: Deployment, failing: tuple[float, float] = (0.0, 0.0), requests: int = 2000, **more: Any) -> Counted:
    """Requests divided as the weights say, failing at these rates."""
    there = round(requests * d.weight / 10_000)
    here = requests - there
    return counts((here, round(here * failing[0])), (there, round(there * failing[1])), **more)


def bins(**shares: float) -> tuple[int, ...]:
    """Counts of 1000 predictions, by bin: `b3=0.5`, and `nan` for those that are no number."""
    result = [0] * PREDICTION_BIN_COUNT
    for name, share in shares.items():
        result[-1 if name == "nan" else int(name[1:])] = round(1000 * share)
    return tuple(result)


TEN = {f"b{i}": 0.1 for i in range(10)}


def ticks(d: Deployment, number: int, counted: Any = None, **facts: Any) -> Deployment:
    """So many ticks; `counted` is the same counts every time, or what makes them of the deployment."""
    for _ in range(number):
        d = decide(d, look(counted(d) if callable(counted) else counted, **facts), 0.0).deployment
    return d


def until(d: Deployment, states: Iterable[State], counted: Any = None, most: int = 3000, **facts: Any) -> Deployment:
    for _ in range(most):
        d = ticks(d, 1, counted, **facts)
        if d.state in states:
            return d
    raise AssertionError(f"never {states}: {d.reason}")


def give(d: Deployment, command: Command, **order: Any) -> Deployment:
    return decide(d, Order(command, look(None), **order), 0.0).deployment


def by(verb: Verb, *, override: bool = False) -> Plain:
    return Plain(verb, override)


class TestPredictions:
    def test_other_predictions_hold_the_rollout_with_how_they_differ_and_nobody_is_rolled_back(self) -> None:
        one_class = Bins(bins(**TEN), bins(b3=0.99, b4=0.01))
        d = ticks(started(CANARY), 20, lambda d: fair(d, predictions=one_class))
        assert (d.state, d.weight) == (State.HOLD, 100)
        assert "predictions differ: they differ by 0." in d.reason
        assert "the candidate answers one class or range (bin 3) in 99 %, the live version in 10 %" in d.reason
        ended = until(d, {State.INCONCLUSIVE}, lambda d: fair(d, predictions=one_class))
        assert "no decision within 2 h: predictions differ" in ended.reason
        still = ticks(ended, 3, lambda d: fair(d, predictions=one_class))
        assert still.state is State.INCONCLUSIVE
        assert "predictions differ" in still.reason

    def test_a_plan_may_roll_back_for_them(self) -> None:
        must_match = Guardrail(Watched.PREDICTIONS, 0.5, required=False, on_harm=OnHarm.ROLLBACK)
        plan = replace(QUICK, guardrails=(ERRORS, must_match))
        d = ticks(started(plan), 8, lambda d: fair(d, predictions=Bins(bins(**TEN), bins(b3=1.0))))
        assert d.state is State.ROLLED_BACK
        assert "predictions differ" in d.reason

    def test_a_difference_too_small_for_anybodys_attention_holds_nothing_however_evident_it_is(self) -> None:
        slightly = Bins(bins(b0=0.51, b1=0.49), bins(b0=0.49, b1=0.51))
        d = ticks(started(replace(CANARY, deadline=1e6)), 2000, lambda d: fair(d, requests=0, predictions=slightly))
        assert d.trial is not None
        (found,) = (f for f in d.trial.findings if f.guardrail.watched is Watched.PREDICTIONS)
        assert found.evidence.categories.log_differ > math.log(100)  # type: ignore[union-attr]
        assert (d.state, d.trial.differing) == (State.CANARY, None)

    def test_an_operator_may_accept_them_and_then_errors_and_latency_decide(self) -> None:
        plan = replace(QUICK, guardrails=(ERRORS, Guardrail(Watched.PREDICTIONS, 1.0, required=False)))
        other = Bins(bins(**TEN), bins(b3=0.5, b4=0.5))
        d = until(started(plan), {State.HOLD}, lambda d: fair(d, predictions=other))
        with pytest.raises(Conflict, match="resume with override"):
            give(d, by(Verb.RESUME))
        with pytest.raises(Conflict, match="predictions differ"):
            give(d, by(Verb.PROMOTE))
        with pytest.raises(Conflict, match="predictions differ"):
            give(d, by(Verb.SKIP))
        assert give(d, by(Verb.PROMOTE, override=True)).state is State.PROMOTED
        d = give(d, by(Verb.RESUME, override=True))
        assert d.state is State.CANARY
        assert "predictions that differ accepted" in d.reason
        assert until(d, {State.PROMOTED}, lambda d: fair(d, predictions=other)).state is State.PROMOTED

    def test_a_candidate_that_answers_no_numbers_is_rolled_back_for_that(self) -> None:
        sick = Bins(bins(**TEN), bins(b0=0.5, nan=0.5))
        d = ticks(started(CANARY), 4, lambda d: fair(d, predictions=sick))
        assert d.state is State.ROLLED_BACK
        assert "the candidate predicts what is no number" in d.reason

    def test_numbers_that_both_versions_lack_are_no_harm(self) -> None:
        both = Bins(bins(b0=0.9, nan=0.1), bins(b0=0.9, nan=0.1))
        assert ticks(started(CANARY), 20, lambda d: fair(d, predictions=both)).state is State.CANARY

    def test_one_callers_rows_without_a_number_are_one_failure(self) -> None:
        """A run of 128 rows of which none is a number says little about the version, some such runs say much."""
        rows = Bins(bins(b0=0.9), (100,) + (0,) * (PREDICTION_BIN_COUNT - 2) + (128,))
        one = Counted(Block(Arm(900, 0), Arm(100, 0)), Block(Arm(900, 0), Arm(100, 0)), predictions=rows)
        d = ticks(started(replace(CANARY, steps=(Step(1000, 600.0),))), 3, fair)
        assert ticks(d, 1, one).state in (State.CANARY, State.HOLD)
        assert ticks(d, 4, one).state is State.ROLLED_BACK


class TestLiveVersionSick:
    def test_beside_a_sick_live_version_nothing_moves_by_itself_and_the_reason_says_what_to_do(self) -> None:
        d = ticks(started(QUICK), 1, fair)
        d = until(d, {State.HOLD}, lambda d: fair(d, (0.3, 0.01)))
        d = ticks(d, 200, lambda d: fair(d, (0.3, 0.01)))
        assert (d.state, d.weight) == (State.HOLD, 1000)
        assert "the live version fails 30 % of its requests, the candidate 1 % of its requests" in d.reason
        assert "promote the candidate by hand, with override" in d.reason
        assert give(d, by(Verb.PROMOTE, override=True)).state is State.PROMOTED

    def test_what_was_counted_beside_a_sick_version_proves_nothing_later(self) -> None:
        d = started(QUICK)
        for _ in range(20):
            d = ticks(d, 1, lambda d: fair(d, (0.3, 0.002)))
        assert d.trial is not None
        assert d.trial.findings[0].log_safe == pytest.approx(0.0, abs=1e-9)
        again = until(d, {State.ROLLED_BACK}, lambda d: fair(d, (0.001, 0.02)))
        assert "errors of the candidate are worse" in again.reason

    def test_when_it_is_well_again_the_rollout_goes_on(self) -> None:
        d = until(started(QUICK), {State.HOLD}, lambda d: fair(d, (0.3, 0.0)))
        assert until(d, {State.PROMOTED}, fair, most=100).state is State.PROMOTED

    def test_two_sick_versions_are_left_as_they_are(self) -> None:
        d = ticks(started(QUICK), 200, lambda d: fair(d, (0.3, 0.3)))
        assert (d.state, d.weight) == (State.HOLD, 1000)
        assert "both versions fail: the live one 30 % of its requests, the candidate 30 %" in d.reason

    def test_a_candidate_that_is_sicker_still_goes(self) -> None:
        d = until(started(QUICK), {State.ROLLED_BACK}, lambda d: fair(d, (0.1, 0.4)))
        assert "errors of the candidate are worse" in d.reason

    def test_a_live_version_that_always_fails_a_little_is_replaced_by_one_that_does_not(self) -> None:
        assert until(started(QUICK), {State.PROMOTED}, lambda d: fair(d, (0.01, 0.0))).state is State.PROMOTED

    def test_without_a_worker_of_the_live_version_it_stands_still_and_a_pause_stays_a_pause(self) -> None:
        gone = {"live": Health()}
        d = ticks(started(QUICK), 2, fair, **gone)
        assert d.state is State.HOLD
        assert "nothing to compare with" in d.reason
        paused = ticks(give(started(QUICK), by(Verb.PAUSE)), 5, fair, **gone)
        assert paused.state is State.PAUSED

    def test_between_two_dead_versions_nothing_moves(self) -> None:
        d = ticks(started(QUICK), 5, None, live=Health(), candidate=Health())
        assert (d.state, d.weight) == (State.HOLD, 1000)


class TestObjective:
    def test_a_live_version_that_never_fails_is_compared_all_the_same(self) -> None:
        d = until(started(QUICK), {State.ROLLED_BACK}, lambda d: fair(d, (0.0, 0.05)))
        assert "against 0 of" in d.reason

    def test_what_both_fail_beyond_the_objective_is_harm_only_where_the_plan_guards_it(self) -> None:
        def rates(d: Deployment) -> Counted:
            return fair(d, (0.03, 0.03))

        alike = started(replace(QUICK, steps=(Step(1000, 600.0),), bake=60.0))
        assert ticks(alike, 60, rates).state is State.CANARY
        guarded = started(replace(QUICK, steps=(Step(1000, 600.0),), bake=60.0, absolute_slo_guard=True))
        assert ticks(guarded, 60, rates).state is State.ROLLED_BACK

    def test_a_rollout_without_one_error_ends_by_its_objective(self) -> None:
        assert until(started(QUICK), {State.PROMOTED}, fair, most=30).state is State.PROMOTED


class TestQuality:
    PLAN = replace(QUICK, guardrails=(ERRORS, Guardrail(Watched.QUALITY, 0.5, loss=0.05)))

    def test_promotion_waits_for_labels(self) -> None:
        d = ticks(started(self.PLAN), 100, fair)
        assert (d.state, d.weight) == (State.CANARY, 5000)
        assert "not yet shown to be no worse: quality" in d.reason
        good = ((1.0, 1.0),) * 20
        assert until(d, {State.PROMOTED}, lambda d: fair(d, judged=good)).state is State.PROMOTED

    def test_a_loss_of_quality_rolls_back_and_says_how_much(self) -> None:
        worse = ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
        d = until(started(self.PLAN), {State.ROLLED_BACK}, lambda d: fair(d, judged=worse))
        assert "quality of the candidate is worse: 0.4 lower than the live version's in" in d.reason

    def test_labels_of_mirrored_requests_are_pairs(self) -> None:
        plan = replace(SHADOW, guardrails=(ERRORS, Guardrail(Watched.QUALITY, 0.5)))
        wrong_where_live_is_right = ((1.0, 0.0), (0.0, 0.0), (1.0, 1.0))
        d = until(
            started(plan), {State.ROLLED_BACK}, lambda d: counts((20, 0), (20, 0), judged=wrong_where_live_is_right)
        )
        assert "only the live version was right in" in d.reason


class TestSplit:
    def test_traffic_that_goes_elsewhere_holds_the_rollout(self) -> None:
        d = ticks(started(CANARY), 10, counts((1000, 0), (100, 0)))
        assert d.state is State.HOLD
        assert "finished" in d.reason
        assert "where 1 % is in force" in d.reason
        assert ticks(d, 2, fair).state is State.HOLD
        accepted = give(d, by(Verb.RESUME, override=True))
        assert ticks(accepted, 5, counts((1000, 0), (100, 0))).state is State.CANARY

    @pytest.mark.parametrize("candidate", [0, 1, 2, 3, 4])
    def test_few_requests_may_be_divided_by_chance(self, candidate: int) -> None:
        d = ticks(started(CANARY), 3, counts((60 - candidate, 0), (candidate, 0)))
        assert d.state is State.CANARY

    def test_counts_of_the_weights_before_are_not_held_against_the_split(self) -> None:
        d = ticks(started(replace(CANARY, steps=(Step(100, 5.0), Step(5000, 60.0)))), 1, counts((99_000, 0), (1000, 0)))
        assert d.weight == 5000
        d = ticks(d, 1, counts((90_000, 0), (10_000, 0)))
        assert ticks(d, 3, fair).state is State.CANARY


class TestShadow:
    def test_it_never_serves_and_is_never_moved_by_itself(self) -> None:
        d = started(SHADOW)
        assert (d.state, d.weight, d.mirrored()) == (State.SHADOW, 0, 1000)
        for _ in range(3000):
            d = ticks(d, 1, counts((1000, 0), (100, 0), compared=Compared(100, 0)))
            assert (d.state, d.weight) == (State.SHADOW, 0)
        assert "shown alike by" in d.reason
        assert "deploys it by another strategy, promotes it or aborts it" in d.reason
        assert give(d, by(Verb.PROMOTE)).state is State.PROMOTED

    def test_answers_that_differ_are_its_verdict(self) -> None:
        d = ticks(started(SHADOW), 60, counts((1000, 0), (100, 0), compared=Compared(70, 30)))
        assert d.state is State.SHADOW
        assert "1800 of 6000 mirrored requests were answered differently, where 5 % may be" in d.reason
        with pytest.raises(Conflict, match="differ"):
            give(d, by(Verb.PROMOTE))
        assert give(d, by(Verb.PROMOTE, override=True)).state is State.PROMOTED

    def test_harm_gives_it_up(self) -> None:
        d = until(started(SHADOW), {State.ROLLED_BACK}, counts((1000, 1), (100, 30), compared=Compared(70, 30)))
        assert "errors of the candidate are worse" in d.reason

    def test_without_a_verdict_its_deadline_ends_the_mirror(self) -> None:
        d = until(started(SHADOW), {State.INCONCLUSIVE}, counts((1000, 0), (0, 0)))
        assert d.mirrored() == 0
        assert "0 of 20 requests" in d.reason
        again = give(d, Extend(600.0))
        assert (again.state, again.mirrored()) == (State.SHADOW, 1000)

    def test_nothing_that_holds_other_rollouts_up_takes_the_mirror_away(self) -> None:
        d = ticks(started(SHADOW), 100, None)
        assert d.state is State.SHADOW
        assert "no evidence for" in d.reason

    def test_a_pause_ends_the_mirror_and_a_resume_begins_it_again(self) -> None:
        d = give(started(SHADOW), by(Verb.PAUSE))
        assert d.mirrored() == 0
        assert give(d, by(Verb.RESUME)).mirrored() == 1000

    def test_after_it_a_canary_begins_with_evidence_of_its_own(self) -> None:
        d = ticks(started(SHADOW), 100, counts((1000, 0), (100, 0), compared=Compared(100, 0)))
        canary = give(d, Deploy(2, "two", Strategy.CANARY))
        assert (canary.state, canary.weight, canary.strategy) == (State.CANARY, 100, Strategy.CANARY)
        assert canary.trial is not None and canary.trial.age == 0.0
        by_hand = give(d, Deploy(2, "two", Strategy.MANUAL))
        assert (by_hand.state, by_hand.weight, by_hand.trial) == (State.CANARY, 0, None)
        with pytest.raises(Conflict, match="promote it"):
            give(d, Deploy(2, "two", Strategy.DIRECT))

    def test_there_is_no_weight_and_no_step_to_skip_to(self) -> None:
        with pytest.raises(Conflict, match="answers nobody yet"):
            give(started(SHADOW), Weight(100))
        with pytest.raises(Conflict, match="no step after"):
            give(started(SHADOW), by(Verb.SKIP))


class TestBluegreen:
    PLAN = replace(BLUEGREEN, guardrails=(ERRORS,))

    def mirrored(self, d: Deployment) -> Counted:
        return counts((1000, 0), (100, 0)) if d.state is State.SHADOW else fair(d)

    def test_it_mirrors_switches_bakes_and_promotes(self) -> None:
        d, seen = started(self.PLAN), list[tuple[State, int]]()
        for _ in range(200):
            seen += [(d.state, d.weight)] if not seen or seen[-1] != (d.state, d.weight) else []
            d = ticks(d, 1, self.mirrored)
        assert seen == [(State.SHADOW, 0), (State.CANARY, 9500), (State.BAKING, 9500), (State.PROMOTED, 0)]

    def test_a_mirrored_candidate_that_fails_never_serves(self) -> None:
        d = until(started(BLUEGREEN), {State.ROLLED_BACK}, counts((1000, 0), (100, 10)))
        assert d.weight == 0

    def test_without_mirrored_requests_it_does_not_switch(self) -> None:
        d = ticks(started(BLUEGREEN), 100, counts((1000, 0), (0, 0)))
        assert (d.state, d.weight) == (State.SHADOW, 0)
        assert "with copies of 10 %: 0 of 20 requests" in d.reason

    def test_the_mirror_can_be_skipped_and_left_out(self) -> None:
        assert give(started(BLUEGREEN), by(Verb.SKIP)).weight == 9500
        assert started(replace(BLUEGREEN, mirror=0)).weight == 9500

    def test_after_the_switch_harm_brings_the_traffic_back(self) -> None:
        d = until(started(BLUEGREEN), {State.CANARY}, self.mirrored)
        assert until(d, {State.ROLLED_BACK}, lambda d: fair(d, (0.0, 0.05)), most=5).weight == 0


class TestNotKnowing:
    @pytest.mark.parametrize("counted", [None, counts((0, 0), (0, 0)), counts((10_000, 0), (0, 0))])
    def test_without_requests_of_the_candidate_it_ends_undecided_whatever_the_live_version_does(
        self, counted: Counted | None
    ) -> None:
        d = started(replace(CANARY, blind_deadline=60.0))
        seen = set()
        for _ in range(int(CANARY.deadline / TICK)):
            d = ticks(d, 1, counted)
            seen.add((d.state, d.weight))
        assert d.state is State.INCONCLUSIVE
        assert {weight for _, weight in seen} == {100}
        assert {state for state, _ in seen} <= {State.CANARY, State.BLIND, State.HOLD, State.INCONCLUSIVE}
        assert "no decision within 2 h" in d.reason

    def test_one_request_a_minute_waits_and_says_for_what(self) -> None:
        d = started(CANARY)
        for i in range(int(CANARY.deadline / TICK) + 1):
            d = ticks(d, 1, counts((int(i % 12 == 0), 0), (int(i % 1200 == 0), 0)))
            assert d.weight == 100
            assert d.trial is None or d.trial.dwelt < 130 or "of 20 requests" in d.reason
        assert d.state is State.INCONCLUSIVE
        assert "2 of 20 requests" in d.reason

    def test_part_of_the_evidence_is_not_enough_to_go_ahead_on_but_enough_to_go_back(self) -> None:
        missing: Any = {"partial": "engine runs are not counted"}
        d = ticks(started(QUICK), 8, lambda d: fair(d, **missing))
        assert (d.state, d.weight) == (State.CANARY, 1000)
        assert ticks(started(QUICK), 5, lambda d: fair(d, (0.0, 0.2), **missing)).state is State.ROLLED_BACK

    def test_blindness_may_roll_back_where_the_plan_says_so(self) -> None:
        plan = replace(QUICK, on_blind=OnBlind.ROLLBACK, blind_after=20.0, blind_deadline=60.0)
        d = until(started(plan), {State.ROLLED_BACK}, None, most=20)
        assert "the plan rolls back then" in d.reason

    def test_weights_that_envoy_did_not_acknowledge_are_no_step(self) -> None:
        d = ticks(started(QUICK), 50, fair, in_force=False)
        assert (d.state, d.weight) == (State.CANARY, 1000)


class TestFreeze:
    PLAN = replace(QUICK, on_harm=OnHarm.FREEZE)

    def test_harm_freezes_where_the_plan_says_so_and_an_operator_aborts(self) -> None:
        d = ticks(started(self.PLAN), 50, lambda d: fair(d, (0.0, 0.2)))
        assert (d.state, d.weight) == (State.HOLD, 1000)
        assert "the plan freezes on harm" in d.reason
        for command in (by(Verb.PROMOTE, override=True), by(Verb.SKIP, override=True), Weight(2000)):
            with pytest.raises(Conflict, match="errors of the candidate are worse"):
                give(d, command)
        assert give(d, Weight(100)).weight == 100
        assert give(d, by(Verb.ABORT)).state is State.ROLLED_BACK

    def test_one_guardrail_may_freeze_while_another_rolls_back(self) -> None:
        plan = replace(QUICK, guardrails=(replace(ERRORS, on_harm=OnHarm.FREEZE), Guardrail(Watched.BATCHES, 0.5)))
        frozen = ticks(started(plan), 50, lambda d: fair(d, (0.0, 0.2)))
        assert frozen.state is State.HOLD
        broken = Counted(Block(Arm(900, 0), Arm(100, 0)), Block(Arm(900, 0), Arm(100, 50)))
        assert ticks(started(plan), 5, broken).state is State.ROLLED_BACK


def test_going_on_after_an_operators_smaller_weight_is_giving_more() -> None:
    d = ticks(started(QUICK), 1, lambda d: fair(d, (0.001, 0.02)))
    small = give(d, Weight(100))
    assert (small.state, small.weight) == (State.PAUSED, 100)
    with pytest.raises(Conflict, match="look worse"):
        give(small, by(Verb.RESUME))
    with pytest.raises(Conflict, match="revision"):
        give(small, by(Verb.RESUME, override=True), expected_revision=small.revision - 1)
    assert give(small, by(Verb.RESUME, override=True)).weight == 1000
    extended = give(replace(small, state=State.INCONCLUSIVE), Extend(600.0))
    assert (extended.state, extended.weight) == (State.PAUSED, 100)
    assert "until it is resumed" in extended.reason


def test_a_mirror_that_is_paused_or_over_has_no_weight_by_hand_either() -> None:
    for plan in (SHADOW, BLUEGREEN):
        paused = give(started(plan), by(Verb.PAUSE))
        for d in (paused, replace(paused, state=State.INCONCLUSIVE)):
            with pytest.raises(Conflict, match="only mirrored yet"):
                give(d, Weight(100))


def test_what_a_rollout_gave_up_by_itself_is_tried_again_on_demand_only() -> None:
    d = until(started(QUICK), {State.ROLLED_BACK}, lambda d: fair(d, (0.0, 0.2)))
    assert d.rolled_back == ("two",)
    for strategy in (None, Strategy.CANARY, Strategy.BLUEGREEN, Strategy.SHADOW, Strategy.DIRECT):
        with pytest.raises(Conflict, match=r"was rolled back by evidence before .* --retry"):
            give(d, Deploy(2, "two", strategy))
    assert give(d, Deploy(2, "two", retry=True)).state is State.WARMING
    by_hand = give(d, Deploy(2, "two", Strategy.MANUAL))
    assert by_hand.state is State.WARMING
    warm = decide(by_hand, Observation(live=WELL, candidate=WELL), 0.0).deployment
    with pytest.raises(Conflict, match="--retry"):
        give(warm, Deploy(2, "two", Strategy.CANARY))
    assert give(warm, by(Verb.PROMOTE)).rolled_back == ()
    assert give(d, Deploy(3, "three")).state is State.WARMING


def test_what_an_operator_gave_up_is_not_remembered_and_memory_is_bounded() -> None:
    assert give(started(QUICK), by(Verb.ABORT)).rolled_back == ()
    d = replace(started(QUICK), rolled_back=tuple(f"digest {i}" for i in range(32)))
    after = until(d, {State.ROLLED_BACK}, lambda d: fair(d, (0.0, 0.2))).rolled_back
    assert (len(after), after[-1]) == (32, "two")


def test_a_third_version_takes_the_candidates_place_when_told_to() -> None:
    d = ticks(started(QUICK), 1, fair)
    with pytest.raises(Conflict, match="--supersede"):
        give(d, Deploy(3, "three"))
    after = give(d, Deploy(3, "three", supersede=True), expected_revision=d.revision)
    assert (after.state, after.weight, after.trial, after.revision) == (State.WARMING, 0, None, d.revision + 1)
    assert after.candidate is not None and d.candidate is not None
    assert (after.candidate.version, after.candidate.color) == (3, d.candidate.color)
    assert "version 2, which takes 10 %, was given up for another; version 3 is warming" in after.reason
    with pytest.raises(Conflict, match="revision"):
        give(d, Deploy(3, "three", supersede=True), expected_revision=d.revision + 1)


def test_a_candidate_that_callers_would_notice_is_refused_until_somebody_says_they_are_ready() -> None:
    live = give(started(QUICK), by(Verb.ABORT))
    noticed = Deploy(3, "three", problems=("input 'x' is gone, and callers send it",))
    with pytest.raises(Conflict, match=r"callers of version 1 would notice version 3: input 'x' is gone.* --override"):
        give(live, noticed)
    assert give(live, replace(noticed, override=True)).state is State.WARMING
