"""Joining and cutting are inverse, whatever the row counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Internal
from serving.batching.assemble import check_rows, cut, join, split


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


@pytest.mark.parametrize("answer", [np.zeros(3), np.zeros(5), np.float32(1).reshape(())])
def test_rows_that_cannot_be_told_apart_are_nobodys(answer: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(Internal, match="4 rows"):
        check_rows({"fine": np.zeros(4), "y": answer}, 4)
