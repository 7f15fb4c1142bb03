"""What a prediction is, read from outputs alone, and the bins that two versions share without agreeing on them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contracts.metrics import PREDICTION_BIN_COUNT
from contracts.signature import Signature, TensorSpec
from serving.engine.base import Array
from serving.summary import CLASS_BINS, EDGES, NO_NUMBER, Kind, bins, predicted, told


def read(array: Array, **others: Array) -> tuple[Kind, list[Any], dict[int, int]] | None:
    """Kind, values and the bins that are not empty."""
    outputs = {"first": array, **others}
    signature = Signature("s", (), tuple(TensorSpec(name, "?", None) for name in outputs), batched=True)
    seen = predicted(signature, outputs)
    if seen is None:
        return None
    counts = bins(seen)
    assert counts.shape == (PREDICTION_BIN_COUNT,)
    return seen.kind, list(told(seen)), {i: int(n) for i, n in enumerate(counts) if n}


def texts(*rows: Any) -> Array:
    return np.array(rows, object)


def test_a_row_of_numbers_is_the_class_with_the_largest() -> None:
    rows = np.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3], [0.0, 1.0, 0.0]], np.float32)
    assert read(rows) == (Kind.CLASS, [1, 0, 1], {0: 1, 1: 2})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_something_that_is_no_number_predicts_nothing(bad: float) -> None:
    assert read(np.array([[0.1, 0.9], [0.5, bad]])) == (Kind.CLASS, [1, None], {1: 1, NO_NUMBER: 1})
    assert read(np.array([bad, 3.0])) == (Kind.SCORE, [None, 3.0], {int(np.searchsorted(EDGES, 3.0)): 1, NO_NUMBER: 1})


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_number_per_row_is_a_score(shape: tuple[int, ...]) -> None:
    kind, values, counts = read(np.array([0.25, 0.25, 7.0], np.float32).reshape(shape)) or pytest.fail("not read")
    assert (kind, values) == (Kind.SCORE, [0.25, 0.25, 7.0])
    assert sorted(counts.values()) == [1, 2]


def test_whole_numbers_are_classes_and_share_bins_fifty_apart() -> None:
    assert read(np.array([[3], [53], [-1]])) == (Kind.CLASS, [3, 53, -1], {3: 2, 49: 1})
    assert read(np.array([True, False])) == (Kind.CLASS, [1, 0], {0: 1, 1: 1})


def test_text_is_text_and_many_texts_in_a_row_need_scores() -> None:
    kind, values, counts = read(texts(b"cat", b"dog", b"cat")) or pytest.fail("not read")
    assert (kind, values, sum(counts.values())) == (Kind.TEXT, ["cat", "dog", "cat"], 3)
    classes = texts([b"cat", b"dog"], [b"cat", b"dog"])
    scores = np.array([[0.2, 0.8], [np.nan, 0.1]], np.float32)
    assert (read(classes, scores=scores) or pytest.fail("not read"))[:2] == (Kind.TEXT, ["dog", None])
    assert read(classes) is None
    assert read(texts(b"\xff")) == (Kind.TEXT, ["�"], read(texts(b"\xff"))[2])  # type: ignore[index]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 0), (1, 2, 1, 1)])
def test_other_forms_are_not_summarised(shape: tuple[int, ...]) -> None:
    assert read(np.zeros(shape)) is None


def test_a_scalar_is_one_row() -> None:
    assert (read(np.array(0.5)) or pytest.fail("not read"))[:2] == (Kind.SCORE, [0.5])


def test_rounding_noise_about_a_round_number_stays_in_one_bin() -> None:
    round_numbers = [0.0, 0.1, 0.5, 0.9, 1.0, 2.0, 5.0, 10.0, 1000.0, -0.1, -1.0, -50.0]
    for number in round_numbers:
        noise = np.array([number - 1e-7 * max(1, abs(number)), number, number + 1e-7 * max(1, abs(number))])
        assert len(set(np.searchsorted(EDGES, noise).tolist())) == 1, number


def test_edges_ascend_and_every_score_has_a_bin_of_its_own() -> None:
    assert (np.diff(EDGES) > 0).all()
    assert len(EDGES) + 1 == NO_NUMBER  # the bins of scores end where the last bin begins
    assert CLASS_BINS <= NO_NUMBER


numbers = hnp.arrays(
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u8", "?"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@given(numbers)
def test_whatever_a_model_answers_every_row_is_counted_once_or_not_at_all(array: Array) -> None:
    seen = read(array)
    if seen is not None:
        rows = len(array) if array.ndim else 1
        assert len(seen[1]) == rows
        assert sum(seen[2].values()) == rows
