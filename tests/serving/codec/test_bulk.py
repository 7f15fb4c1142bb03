"""The fast way of reading big arrays gives what the careful way gives, or steps aside."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.signature import TensorSpec
from serving.codec.bulk import parse_v2, read_nested, split_v1
from serving.codec.columns import Column


def exactly(items: Any, count: int) -> Any:
    return st.lists(items, min_size=count, max_size=count)


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=2),
)
TREES = st.recursive(st.integers(0, 9) | NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=20)
GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(NUMBERS, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@given(
    value=st.lists(TREES, max_size=4) | GRIDS,
    dtype=st.sampled_from(["float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool", "string"]),
    shape=st.sampled_from([None, (None, None), (None,), (None, 2)]),
    indent=st.sampled_from([None, 1]),
)
def test_fast_and_careful_agree(
    value: list[Any], dtype: str, shape: tuple[int | None, ...] | None, indent: int
) -> None:
    column = Column(TensorSpec("x", dtype, shape), batched=True)
    text = json.dumps(value, indent=indent).encode()
    try:
        fast = read_nested(text, column)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            column.read(json.loads(text))
        return
    if fast is not None:
        careful = column.read(json.loads(text))
        assert fast.dtype == careful.dtype
        np.testing.assert_array_equal(fast, careful)


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b' { "instances" : [1] } ', (None, "instances", b"[1] ")),
        (b'{"signature_name":"s","inputs":[[1]]}', ("s", "inputs", b"[[1]]")),
        (b'{"instances":[1],"signature_name":"s"}', None),
        (b'{"instances":["}"]}', None),
        (b'{"instances":[1]} x', None),
        (b'{"instances":1}', None),
        (b'{"signature_name":"a\\"b","instances":[1]}', None),
    ],
)
def test_only_plain_bodies_take_the_fast_way(body: bytes, parts: Any) -> None:
    assert split_v1(body) == parts


def test_nested_data_takes_the_careful_way() -> None:
    columns = {"x": Column(TensorSpec("x", "float32", (None,)), batched=True)}
    flat = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}], "outputs": [{"name": "y"}]}
    found = parse_v2(json.dumps(flat).encode(), columns)
    assert found is not None
    assert found["inputs"][0]["data"].dtype == np.float32
    assert found["outputs"] == [{"name": "y"}]
    flat["inputs"][0]["data"] = [[1], [2]]  # type: ignore[index]
    assert parse_v2(json.dumps(flat).encode(), columns) is None
