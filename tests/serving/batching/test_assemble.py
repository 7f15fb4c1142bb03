"""Joining and cutting are inverse, whatever the row counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.signature import Signature, TensorSpec
from serving.batching.assemble import Promise, WrongOutputs, cut, join, split


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_what_was_joined_is_cut_apart_again(rows: list[int]) -> None:
    parts = [{"x": np.arange(n * 2).reshape(n, 2) + 100 * i, "s": np.full(n, i)} for i, n in enumerate(rows)]
    for before, after in zip(parts, cut(join(parts), rows), strict=True):
        assert np.array_equal(before["x"], after["x"])
        assert np.array_equal(before["s"], after["s"])


@given(st.integers(1, 100), st.integers(1, 20))
def test_a_split_loses_no_row(rows: int, at_most: int) -> None:
    pieces = split({"x": np.arange(rows)}, rows, at_most)
    assert np.concatenate([piece["x"] for piece, _ in pieces]).tolist() == list(range(rows))
    assert max(count for _, count in pieces) <= at_most


TWO = Signature(
    "two",
    (TensorSpec("x", "float32", (None,)),),
    (TensorSpec("y", "float32", (None, 2)), TensorSpec("word", "string", (None,))),
    batched=True,
)
GOOD = {"y": np.zeros((4, 2), np.float32), "word": np.array([b"a"] * 4, object)}


def test_outputs_as_promised_pass() -> None:
    Promise(TWO).check(GOOD, 4)


@pytest.mark.parametrize(
    ("name", "answer", "complaint"),
    [
        ("y", np.zeros((3, 2), np.float32), "4 rows with 3 rows of output 'y'"),
        ("y", np.zeros((5, 2), np.float32), "4 rows with 5 rows"),
        ("y", np.float32(1).reshape(()), "4 rows with no rows at all"),
        ("y", np.zeros((4, 2), np.float64), "as float64, its signature says float32"),
        ("y", np.array([[1], [2, 3], [4], [5]], object), "as object, its signature says float32"),
        ("word", np.zeros(4, np.float32), "as float32, its signature says object"),
    ],
)
def test_what_the_signature_rules_out_is_nobodys(name: str, answer: np.ndarray, complaint: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(WrongOutputs, match=complaint):
        Promise(TWO).check(GOOD | {name: answer}, 4)


def test_a_missing_output_is_noticed() -> None:
    with pytest.raises(WrongOutputs, match="1 outputs, its signature names 2"):
        Promise(TWO).check({"y": GOOD["y"]}, 4)
