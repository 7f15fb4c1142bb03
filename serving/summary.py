"""What a prediction is, read from a model's outputs: a class, a score or a text per row; and bins to count them in.

Pure and vectorised over rows. Two versions need no agreement about it: what is read depends on the first output's
dtype and shape alone, and the bins are the same for every model. Who counts and who remembers is elsewhere.

- floats [rows, K], K of 2 or more: the class with the largest value, as its index
- floats [rows] or [rows, 1]: a score
- integers or booleans [rows] or [rows, 1]: a class
- strings [rows] or [rows, 1]: a text; strings [rows, K] beside scores [rows, K]: the text with the largest score

A scalar counts as one row; anything else is not summarised. Classes fall into bins by index, from 50 on by index modulo
50, texts by their CRC-32 modulo 50, scores by EDGES. The last bin is for rows with a NaN or an infinity.
"""

import itertools
import zlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.metrics import PREDICTION_BIN_COUNT
from contracts.signature import Signature
from serving.engine.base import Array, Tensors

CLASS_BINS = 50
NO_NUMBER = PREDICTION_BIN_COUNT - 1

_DECADES = [step * 10.0**power for power, step in itertools.product(range(6), (1, 2, 5))] + [1e6]
_WITHIN = [0.001, 0.01, *(k / 10 for k in range(1, 10)), 0.99, 0.999]  # many scores are rare chances or near certainty
_ROUND = [-x for x in reversed(_DECADES)] + [-0.5, -0.2, -0.1, 0.0, *_WITHIN, *_DECADES]
# A little further from zero than the round numbers: models like to answer those, and whether rounding noise makes an
# answer 0.5 or 0.49999997 must not move it into another bin.
EDGES = np.array([x * 1.0001 if x else -1e-6 for x in _ROUND])
"""Bin k of a score holds what is over EDGES[k - 1] and not over EDGES[k]."""


class Kind(StrEnum):
    CLASS = "class"
    SCORE = "score"
    TEXT = "text"


class Predicted(NamedTuple):
    """What was predicted for each row. `values` are int64 for classes, float64 for scores, bytes for texts; where
    `known` is false the row held something that is no number, and its value means nothing."""

    kind: Kind
    values: Array
    known: npt.NDArray[np.bool_]


def predicted(signature: Signature, outputs: Tensors) -> Predicted | None:
    """The predictions in the outputs of one run or of one caller; None for outputs that have no such reading."""
    first = outputs[signature.outputs[0].name]
    if first.ndim > 2 or (first.ndim == 2 and first.shape[1] == 0):
        return None
    rows = first.reshape(-1, 1) if first.ndim < 2 else first
    kind = first.dtype.kind
    if kind == "O":
        return _texts(rows, outputs)
    if _is_real(first):
        return _classes_of(rows) if rows.shape[1] > 1 else _scores(rows[:, 0])
    if kind in "biu" and rows.shape[1] == 1:
        return Predicted(Kind.CLASS, rows[:, 0].astype(np.int64), np.ones(len(rows), np.bool_))
    return None


def bins(seen: Predicted) -> npt.NDArray[np.int64]:
    """How many rows fall into each of PREDICTION_BIN_COUNT bins."""
    values = seen.values[seen.known]
    if seen.kind is Kind.SCORE:
        where: Array = np.searchsorted(EDGES, values)
    elif seen.kind is Kind.CLASS:
        where = values % CLASS_BINS
    else:
        where = np.array([zlib.crc32(text) % CLASS_BINS for text in values], np.int64)
    counts = np.bincount(where, minlength=PREDICTION_BIN_COUNT)
    counts[NO_NUMBER] = len(seen.known) - len(values)
    return counts


def told(seen: Predicted) -> Sequence[int | float | str | None]:
    """One JSON value per row: null where there was no number; text that is not UTF-8 with replacement characters."""
    if seen.kind is Kind.TEXT:
        values: list[Any] = [text.decode("utf-8", "replace") for text in seen.values]
    else:
        values = seen.values.tolist()
    return [value if known else None for value, known in zip(values, seen.known.tolist(), strict=True)]


def telling(signature: Signature) -> frozenset[str]:
    """The outputs that `predicted` may look at."""
    first = signature.outputs[0]
    if first.dtype != "string":
        return frozenset({first.name})
    return frozenset({first.name} | {spec.name for spec in signature.outputs if "float" in spec.dtype})


def _is_real(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"  # whose kind numpy does not know


def _classes_of(rows: Array) -> Predicted:
    known: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    return Predicted(Kind.CLASS, rows.argmax(axis=1), known)


def _scores(column: Array) -> Predicted:
    values = column.astype(np.float64)
    return Predicted(Kind.SCORE, values, np.isfinite(values))


def _texts(rows: Array, outputs: Tensors) -> Predicted | None:
    """Strings are Python's bytes. Several in a row are the classes that scores are about."""
    if rows.shape[1] == 1:
        return Predicted(Kind.TEXT, rows[:, 0], np.ones(len(rows), np.bool_))
    scores = next((a for a in outputs.values() if _is_real(a) and a.shape == rows.shape), None)
    if scores is None:
        return None
    best = _classes_of(scores)
    return Predicted(Kind.TEXT, rows[np.arange(len(rows)), best.values], best.known)
