"""Labels of answers: judged once, by whoever remembers the answer, and paired up for rollouts."""

import asyncio
from typing import Any

import pytest

from contracts.names import Color
from deploy import feedback
from deploy.feedback import Judge, Judgement, Report, Result
from deploy.ports import Placement
from tests.fakes.clock import HandClock
from tests.fakes.fleet import FakeFleet
from tests.fakes.memories import FakeMemories

NOW = 1_800_000_000.0


class Court:
    """A judge, what workers remember, and versions 1 and 2 of model m deployed."""

    def __init__(self) -> None:
        self.memories, self.fleet, self.clock = FakeMemories(), FakeFleet(instantly=True), HandClock(NOW)
        self.heard: list[Result] = []
        self.judge = Judge(self.memories, self.fleet, self.clock, lambda judgement: self.heard.append(judgement.result))
        self.deploy(1, 2)

    def deploy(self, *versions: int) -> None:
        colors = {1: Color.BLUE, 2: Color.GREEN, 3: Color.BLUE}
        placed = [Placement("m", v, colors[v], f"{v:064x}", "/p") for v in versions]
        asyncio.run(self.fleet.converge(placed))

    def hear(self, *reports: Report) -> list[Judgement]:
        return asyncio.run(self.judge.hear(reports))

    def label(self, request_id: str, *labels: Any, **more: Any) -> Judgement:
        (judgement,) = self.hear(Report(request_id, labels, **more))
        return judgement

    def pairs(self, since: float = 0.0, *, mirrored: bool = False) -> tuple[tuple[float, float], ...]:
        return self.judge.pairs("m", 1, 2, since, mirrored=mirrored)


def test_a_label_is_judged_by_the_version_that_remembers_the_request() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    court.memories.answered("b", 2, 7)
    assert court.label("a", 3) == Judgement("a", Result.JUDGED, "version 1: 1", "m", ((1, 1.0),), ((1, 0.0),))
    assert court.label("b", 3).outcomes == ((2, 0.0),)


def test_the_same_request_is_judged_once_whatever_is_said_later() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    first, second = court.hear(Report("a", (3,)), Report("a", (4,)))
    assert (first.result, second.result) == (Result.JUDGED, Result.REPEATED)
    assert court.label("a", 3).result is Result.REPEATED
    assert court.heard == [Result.JUDGED, Result.REPEATED, Result.REPEATED]


def test_a_wrong_label_can_be_corrected_because_it_never_counted() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    assert court.label("a", "three").result is Result.UNFIT
    assert court.label("a", 3).result is Result.JUDGED


def test_a_forgotten_request_says_what_to_do_next() -> None:
    court = Court()
    judgement = court.label("nobody", 3)
    assert judgement.result is Result.UNKNOWN
    assert "model, version and predicted" in judgement.reason
    court.memories.silent.add("m-1-blue-0")
    assert "1 workers could not be asked" in court.label("nobody", 3).reason


def test_the_caller_may_say_what_was_predicted_when_the_worker_forgot() -> None:
    court = Court()
    told = {"model": "m", "version": 2, "predicted": (7,)}
    assert court.label("a", 7, **told).outcomes == ((2, 1.0),)
    assert court.label("b", 7, model="m", version=9, predicted=(7,)).result is Result.UNKNOWN
    assert court.label("c", 7, predicted=(7,)).result is Result.UNKNOWN


def test_the_worker_knows_better_than_the_caller_unless_it_kept_no_values() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    court.memories.answered("big", 1, kind=None)
    assert court.label("a", 3, model="m", version=1, predicted=(5,)).outcomes == ((1, 1.0),)
    assert court.label("big", 3).result is Result.UNFIT
    assert court.label("big", 3, predicted=(3,)).outcomes == ((1, 1.0),)


def test_a_version_that_did_not_answer_gets_no_label() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    judgement = court.label("a", 3, version=2)
    assert judgement.result is Result.UNKNOWN
    assert "it was version 1" in judgement.reason


def test_one_id_under_two_models_needs_the_model() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    court.memories.answered("a", 1, 4, model="other")
    assert "say which is meant with model" in court.label("a", 3).reason
    assert court.label("a", 3, model="m").result is Result.JUDGED


def test_a_mirrored_request_is_judged_for_both_versions() -> None:
    court = Court()
    court.memories.answered("a", 1, 3)
    court.memories.answered("a", 2, 4)
    assert court.label("a", 3).outcomes == ((1, 1.0), (2, 0.0))
    assert court.pairs() == ((1.0, 0.0),)


def test_of_a_mirrored_candidate_only_requests_that_both_answered_are_paired() -> None:
    court = Court()
    court.memories.answered("not copied", 1, 3)
    court.label("not copied", 3)
    for name in ("b", "c"):
        court.memories.answered(name, 1, 3)
        court.memories.answered(name, 2, 4)
    court.label("c", 4)
    court.label("b", 3)
    assert court.pairs(mirrored=True) == ((0.0, 1.0), (1.0, 0.0))
    court.memories.answered("served", 2, 3)
    court.label("served", 3)
    assert court.pairs() == ()  # what was not copied is too old to be paired with what comes later


def test_outcomes_pair_up_in_the_order_of_their_labels_and_are_given_out_once() -> None:
    court = Court()
    for name, version, right in (("a", 1, 1), ("b", 1, 0), ("c", 2, 0), ("d", 1, 1), ("e", 2, 1)):
        court.memories.answered(name, version, 1 if right else 0)
        court.label(name, 1)
    assert court.pairs() == ((1.0, 0.0), (0.0, 1.0))
    assert court.pairs() == ()
    court.memories.answered("f", 2, 0)
    court.label("f", 1)
    assert court.pairs() == ((1.0, 0.0),)


def test_answers_from_before_the_rollout_are_paired_with_nothing() -> None:
    court = Court()
    court.memories.answered("old", 1, 1, at=NOW - 100)
    court.memories.answered("new", 2, 1, at=NOW)
    for name in ("old", "new"):
        court.label(name, 1)
    assert court.pairs(since=NOW - 50) == ()
    court.memories.answered("newer", 1, 0, at=NOW)
    court.label("newer", 1)
    assert court.pairs(since=NOW - 50) == ((0.0, 1.0),)


def test_what_is_remembered_of_labels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "JUDGED_KEPT", 2)
    court = Court()
    for name in ("a", "b", "c"):
        court.memories.answered(name, 1, 1)
        court.label(name, 1)
    assert [court.label(name, 1).result for name in ("c", "b", "a")] == [
        Result.REPEATED,
        Result.REPEATED,
        Result.JUDGED,
    ]


def test_outcomes_of_versions_that_left_are_dropped() -> None:
    court = Court()
    court.memories.answered("a", 1, 1)
    court.label("a", 1)
    court.deploy(2)
    court.label("nobody", 1)
    court.deploy(1, 2)
    court.memories.answered("b", 2, 1)
    court.label("b", 1)
    assert court.pairs() == ()
