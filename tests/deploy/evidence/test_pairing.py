"""What two looks at both versions amount to: only what was seen at both ends, for both versions."""

from dataclasses import replace

import pytest

from contracts.metrics import PREDICTION_BIN_COUNT
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.counted import NO_BINS
from deploy.evidence.counters import Fact, Gap, GapKind, Kind, Sample, Series, Source, Told
from deploy.evidence.pairing import Anchor, Both, anchor, stretch

ENVOY = Source(Kind.SPLIT, "envoy")
WORKER = Source(Kind.WORKER, "worker-0")


def requests(answered: int, failed: int = 0, at: float = 0.0, life: float = 9.0, **more: int) -> Told:
    counts = {
        Fact.ANSWERED: answered,
        Fact.FAILED: failed,
        Fact.TIMED: answered,
        **{Fact(k): v for k, v in more.items()},
    }
    return Told(at, life, {Series(fact): float(n) for fact, n in counts.items()})


def runs(batches: int, failed: int = 0, at: float = 0.0, life: float = 9.0, first_bin: int = 0) -> Told:
    counts = {Series(Fact.BATCHES): batches, Series(Fact.BATCHES_FAILED): failed, Series(Fact.PREDICTED, 0): first_bin}
    return Told(at, life, {series: float(n) for series, n in counts.items()})


def sample(envoy: Told | Gap | None = None, worker: Told | Gap | None = None, **others: Told | Gap) -> Sample:
    whole = {ENVOY: envoy, WORKER: worker, **{Source(Kind.WORKER, name): told for name, told in others.items()}}
    return {source: told for source, told in whole.items() if told is not None}


def at(seconds: float, both: Both) -> Both:
    """The same, looked at later."""
    later = [{s: t if isinstance(t, Gap) else replace(t, at=seconds) for s, t in arm.items()} for arm in both.arms]
    return replace(both, live=later[0], candidate=later[1])


BEFORE = Both(sample(requests(100), runs(10)), sample(requests(10), runs(1)))
AFTER = at(2.0, Both(sample(requests(190, 2), runs(19)), sample(requests(20, 1), runs(2))))


def begun(both: Both = BEFORE) -> Anchor:
    found = anchor(both)
    assert isinstance(found, Anchor)
    return found


def counted(after: Both, before: Both = BEFORE):
    found = stretch(begun(before), after)
    assert not isinstance(found, Gap), found
    return found[1].counted


def gap(after: Both, before: Both = BEFORE) -> Gap:
    found = stretch(begun(before), after)
    assert isinstance(found, Gap)
    return found


def test_what_both_versions_did_between_two_looks_is_one_block_of_each_kind():
    found = counted(AFTER)
    assert found.errors == Block(Arm(90, 2), Arm(10, 1))
    assert found.batches == Block(Arm(9, 0), Arm(1, 0))
    assert found.partial == ""


def test_stretches_follow_on_each_other_without_gap_or_overlap():
    first, after = stretch(begun(), AFTER)[0], at(4.0, AFTER)
    assert stretch(first, after)[1].counted.errors == NOTHING
    assert stretch(begun(), after)[1].counted.errors == counted(AFTER).errors


def test_a_source_that_has_nothing_newer_is_waited_for_and_nothing_is_lost():
    assert gap(at(0.0, AFTER)).kind is GapKind.PENDING


def test_failures_nobody_saw_count_and_what_callers_got_wrong_does_not():
    after = at(2.0, Both(sample(requests(210, 1, refused=10, saved=4)), AFTER.candidate))
    assert counted(after).errors.live == Arm(100, 5)


def test_a_caller_who_left_is_no_failure_and_slower_than_every_bound():
    after = at(2.0, Both(AFTER.live, sample(requests(20, 0, cut=5, timed_out=2, within=10), runs(2))))
    found = counted(after)
    assert found.errors.candidate == Arm(10, 0)
    assert {block.candidate for block in found.slower} == {Arm(13, 13)}
    assert {block.live for block in found.slower} == {Arm(90, 90)}


def test_a_version_that_envoy_does_not_count_is_a_gap_and_no_zero():
    assert anchor(Both(BEFORE.live, {})).kind is GapKind.MISSING
    assert gap(Both(AFTER.live, {})).kind is GapKind.MISSING


def test_an_envoy_that_was_seen_for_one_version_only_is_evidence_of_neither():
    only_live = Both(BEFORE.live, {WORKER: runs(1), Source(Kind.SPLIT, "another"): requests(1)})
    assert gap(AFTER, only_live).kind is GapKind.FIRST_LOOK


def test_one_of_two_envoys_that_is_missing_at_one_end_is_left_out_for_both_versions():
    second = Source(Kind.SPLIT, "envoy-2")
    after = Both({**AFTER.live, second: requests(1000, at=2.0)}, {**AFTER.candidate, second: requests(900, at=2.0)})
    assert counted(after).errors == Block(Arm(90, 2), Arm(10, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0, 1e308])
@pytest.mark.parametrize("arm", ["live", "candidate"])
def test_a_value_that_is_no_count_on_one_version_discards_the_stretch_of_both(value, arm):
    wrong = {ENVOY: Told(2.0, 9.0, {Series(Fact.ANSWERED): value})}
    assert gap(replace(AFTER, **{arm: wrong})).kind is GapKind.NO_COUNT


def test_counters_that_contradict_each_other_are_a_gap():
    after = at(2.0, Both(AFTER.live, sample(requests(20, 60))))
    assert gap(after).kind is GapKind.CONTRADICTION


def test_an_envoy_that_restarted_counts_from_zero_and_the_stretch_says_that_some_is_lost():
    after = at(2.0, Both(sample(requests(30, life=1.0)), sample(requests(15, life=1.0))))
    found = stretch(begun(), after)[1]
    assert found.counted.errors == Block(Arm(30, 0), Arm(15, 0))
    assert found.broken


def test_a_worker_that_restarted_counts_what_it_did_since():
    after = Both(AFTER.live, {**AFTER.candidate, WORKER: runs(7, 3, at=2.0, life=-99.0)})
    assert counted(after).batches.candidate == Arm(7, 3)


def test_a_worker_first_seen_because_it_had_not_answered_before_does_not_count_its_whole_life():
    silent = Both(BEFORE.live, {ENVOY: requests(10), WORKER: Gap("it hangs", GapKind.MISSING)})
    found = counted(AFTER, silent)
    assert found.batches == NOTHING
    assert "both ends" in found.partial
    assert found.errors == Block(Arm(90, 2), Arm(10, 1))


def test_a_second_worker_that_has_just_come_is_left_out_and_the_first_one_is_not():
    after = Both(AFTER.live, {**AFTER.candidate, Source(Kind.WORKER, "worker-1"): runs(5000, 5000, at=2.0)})
    assert counted(after).batches.candidate == Arm(1, 0)


@pytest.mark.parametrize("arm", ["live", "candidate"])
def test_a_worker_that_does_not_answer_takes_the_runs_of_both_versions_out_and_leaves_the_requests(arm):
    down = {**AFTER.live, WORKER: Gap("worker-0 does not answer", GapKind.MISSING)}
    down[ENVOY] = getattr(AFTER, arm)[ENVOY]
    found = counted(replace(AFTER, **{arm: down}))
    assert found.batches == NOTHING
    assert "worker-0 does not answer" in found.partial
    assert found.errors == Block(Arm(90, 2), Arm(10, 1))


def test_workers_that_were_not_scraped_anew_are_counted_with_the_next_stretch():
    late = {**AFTER.candidate, WORKER: replace(AFTER.candidate[WORKER], at=0.0)}
    after_that, found = stretch(begun(), Both(AFTER.live, late))
    assert (found.counted.batches, found.counted.partial) == (NOTHING, "")
    assert stretch(after_that, at(4.0, AFTER))[1].counted.batches == Block(Arm(9, 0), Arm(1, 0))


def test_mirrored_copies_are_the_candidates_part_while_it_serves_nobody():
    mirror = Source(Kind.MIRROR, "envoy")
    before = Both(BEFORE.live, {ENVOY: requests(0), mirror: requests(5)}, mirrored=True)
    after = at(2.0, Both(AFTER.live, {ENVOY: requests(0), mirror: requests(50, 4)}, mirrored=True))
    assert counted(after, before).errors == Block(Arm(90, 2), Arm(45, 4))
    assert gap(replace(after, mirrored=False), before).kind is GapKind.FIRST_LOOK


def test_copies_are_no_evidence_once_the_candidate_serves():
    mirror = Source(Kind.MIRROR, "envoy")
    before = Both(BEFORE.live, {**BEFORE.candidate, mirror: requests(5)})
    after = Both(AFTER.live, {**AFTER.candidate, mirror: requests(500, 400, at=2.0)})
    assert counted(after, before).errors == counted(AFTER).errors


@pytest.mark.parametrize("arm", ["live", "candidate"])
def test_engine_runs_that_a_pinned_caller_may_be_in_are_nobodys_evidence_and_nothing_missing(arm):
    pinned = Source(Kind.PINNED, "envoy")

    def asked_by_name(both: Both, times: int, seconds: float) -> Both:
        told = Told(seconds, 9.0, {Series(Fact.SENT): float(times)})
        worker = getattr(both, arm)[WORKER]
        ran = replace(worker, counts={**worker.counts, Series(Fact.PREDICTIONS): seconds})
        return replace(both, **{arm: {**getattr(both, arm), pinned: told, WORKER: ran}})

    first, found = stretch(begun(asked_by_name(BEFORE, 3, 0.0)), asked_by_name(AFTER, 4, 2.0))
    assert (found.counted.batches, found.counted.partial) == (NOTHING, "")
    assert found.counted.errors == Block(Arm(90, 2), Arm(10, 1))
    later = at(4.0, AFTER)
    ran = {arm_: {**getattr(later, arm_), WORKER: runs(40, at=4.0)} for arm_ in ("live", "candidate")}
    second, found = stretch(first, asked_by_name(replace(later, **ran), 4, 4.0))
    assert found.counted.batches == NOTHING, "sent in one stretch, it may be computed in the next"
    last = {arm_: {**getattr(later, arm_), WORKER: runs(50, at=6.0)} for arm_ in ("live", "candidate")}
    assert stretch(second, at(6.0, replace(later, **last)))[1].counted.batches == Block(Arm(10, 0), Arm(10, 0))


def test_questions_about_a_model_are_no_predictions_where_that_can_be_told():
    def asked(both: Both, questions: int, answered: int, seconds: float) -> Both:
        pinned = Told(seconds, 9.0, {Series(Fact.SENT): float(questions)})
        sent = {Series(Fact.SENT): 50.0, **both.live[ENVOY].counts}
        ran = {Series(Fact.PREDICTIONS): float(answered), **both.live[WORKER].counts}
        live = {ENVOY: replace(both.live[ENVOY], counts=sent), WORKER: replace(both.live[WORKER], counts=ran)}
        return replace(both, live={**live, Source(Kind.PINNED, "envoy"): pinned})

    before = begun(asked(BEFORE, 0, 50, 0.0))
    assert stretch(before, asked(AFTER, 9, 50, 2.0))[1].counted.batches == Block(Arm(9, 0), Arm(1, 0))
    assert stretch(before, asked(AFTER, 9, 51, 2.0))[1].counted.batches == NOTHING


def test_predictions_are_counted_for_both_versions_or_for_none():
    live, candidate = runs(19, first_bin=30, at=2.0), runs(2, first_bin=4, at=2.0)
    found = counted(Both({**AFTER.live, WORKER: live}, {**AFTER.candidate, WORKER: candidate})).predictions
    assert (found.live[0], found.candidate[0], len(found.live)) == (30, 4, PREDICTION_BIN_COUNT)
    assert counted(Both({**AFTER.live, WORKER: live}, AFTER.candidate)).predictions == NO_BINS
