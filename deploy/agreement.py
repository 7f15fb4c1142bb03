"""How right an answer was, given what turned out to be true, and whether two versions answered alike. Pure."""

import math
from collections.abc import Sequence

from contracts.errors import InvalidInput
from deploy.ports import Answered, Value

Label = int | float | str | bool
"""What turned out to be true of one row."""

SCORE_TOLERANCE = 1e-3
"""Of the larger one: two scores that differ by less are alike. Plans of one model differ by rounding."""


def outcome(answer: Answered, labels: Sequence[Label]) -> float:
    """From 0 (wrong) to 1 (right): 1 or 0 for a class or a text; for a score 1 less the error, relative to the label
    where that is over 1, and at most 1. A request of several rows has their mean, as rows of one request are not
    independent of each other. What was no number was wrong. Raises InvalidInput for labels that cannot be about this
    answer."""
    if answer.kind is None:
        raise InvalidInput(
            "what was predicted is not known: the output is no class, score or text, or was too big to be remembered; "
            "send model, version and predicted along with the label"
        )
    if len(labels) != len(answer.predicted):
        raise InvalidInput(f"the request had {len(answer.predicted)} rows, got {len(labels)} labels")
    rows = [_right(answer.kind, value, label) for value, label in zip(answer.predicted, labels, strict=True)]
    return math.fsum(rows) / len(rows) if rows else 1.0


def alike(one: Answered, other: Answered) -> bool | None:
    """Whether two versions said the same to one request: equal classes and texts, scores within SCORE_TOLERANCE. None
    when that is not known of either."""
    if one.kind is None or other.kind is None:
        return None
    if one.kind != other.kind or len(one.predicted) != len(other.predicted):
        return False
    return all(map(_same, one.predicted, other.predicted))


def kind_of(predicted: Sequence[Value], labels: Sequence[Label]) -> str:
    """What a prediction is that somebody else remembered: a score where it or its label has a fraction, as many write
    the score 1.0 as 1."""
    if any(isinstance(value, str) for value in predicted):
        return "text"
    numbers = [value for value in (*predicted, *labels) if isinstance(value, float)]
    return "score" if any(not value.is_integer() for value in numbers) else "class"


def _right(kind: str, value: Value, label: Label) -> float:
    if isinstance(label, str) != (kind == "text"):
        expected = {"class": "the number of a class", "score": "a number", "text": "a text"}[kind]
        raise InvalidInput(f"label {label!r:.100} does not fit a {kind}: expected {expected}")
    if value is None:
        return 0.0
    if isinstance(label, str) or isinstance(value, str) or kind == "class":
        return float(value == label)
    return 1.0 - min(1.0, abs(value - label) / max(1.0, abs(label)))


def _same(here: Value, there: Value) -> bool:
    if isinstance(here, float) and isinstance(there, float):
        return math.isclose(here, there, rel_tol=SCORE_TOLERANCE, abs_tol=SCORE_TOLERANCE * 1e-3)
    return here == there
