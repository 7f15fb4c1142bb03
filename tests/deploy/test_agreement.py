"""How right an answer was, and whether two versions said the same."""

import pytest

from contracts.errors import InvalidInput
from contracts.names import Color
from deploy.agreement import Label, alike, kind_of, outcome
from deploy.ports import Answered, Value


def said(kind: str | None, *values: Value, version: int = 1) -> Answered:
    return Answered("r", "m", version, Color.BLUE, "w", 1.0, len(values), kind, values)


@pytest.mark.parametrize(
    ("kind", "value", "label", "right"),
    [
        ("class", 3, 3, 1.0),
        ("class", 3, 4, 0.0),
        ("class", 3, 3.0, 1.0),
        ("class", 1, True, 1.0),
        ("text", "cat", "cat", 1.0),
        ("text", "cat", "Cat", 0.0),
        ("score", 0.75, 1, 0.75),
        ("score", 0.75, 0, 0.25),
        ("score", 180.0, 200.0, 0.9),
        ("score", -5.0, 5.0, 0.0),
        ("score", 1e30, 0, 0.0),
        ("class", None, 3, 0.0),
        ("score", None, 0.5, 0.0),
    ],
)
def test_an_answer_is_right_or_wrong_or_in_between(kind: str, value: Value, label: Label, right: float) -> None:
    assert outcome(said(kind, value), [label]) == pytest.approx(right)


def test_a_request_of_several_rows_counts_once_with_their_mean() -> None:
    assert outcome(said("class", 1, 2, 3, 4), [1, 2, 0, 4]) == 0.75


@pytest.mark.parametrize(
    ("answer", "labels", "words"),
    [
        (said("class", 1), ["cat"], "the number of a class"),
        (said("text", "cat"), [3], "a text"),
        (said("score", 0.5), ["0.5"], "a number"),
        (said("class", 1, 2), [1], "2 rows, got 1 labels"),
        (said(None), [1], "send model, version and predicted"),
    ],
)
def test_a_label_that_cannot_be_about_the_answer_is_refused(answer: Answered, labels: list[Label], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        outcome(answer, labels)


def test_two_versions_agree_on_equal_classes_and_on_scores_up_to_rounding() -> None:
    assert alike(said("class", 1, 2), said("class", 1, 2))
    assert alike(said("score", 100.0), said("score", 100.05))
    assert alike(said("score", 1e-9), said("score", 0.0))
    assert alike(said("class", None), said("class", None))
    assert alike(said("class", 1, 2), said("class", 1, 3)) is False
    assert alike(said("score", 100.0), said("score", 100.5)) is False
    assert alike(said("class", 1), said("class", None)) is False
    assert alike(said("class", 1), said("score", 1.0)) is False


def test_what_is_not_known_is_neither_alike_nor_different() -> None:
    assert alike(said(None), said("class", 1)) is None


def test_a_prediction_told_by_its_caller_is_a_score_where_anything_has_a_fraction() -> None:
    assert kind_of([1], [0.7]) == "score"
    assert kind_of([0.25], [1]) == "score"
    assert kind_of([1.0], [1]) == "class"
    assert kind_of(["cat"], ["cat"]) == "text"
