"""Big arrays of numbers, parsed straight into a buffer: a 3 MB image in a few milliseconds instead of tens.

simdjson flattens whatever is nested and does not notice ragged rows, so the brackets and commas of the text are
compared with those the shape calls for. Anything unusual returns None: the careful path then reads it and names
the fault.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import simdjson

from contracts.limits import LIMITS
from serving.codec.columns import Column
from serving.engine.base import Array

THRESHOLD = 32 * 1024  # bytes of body; below this orjson is as fast

_V1_HEAD = re.compile(rb'\s*\{\s*(?:"signature_name"\s*:\s*"([^"\\]*)"\s*,\s*)?"(instances|inputs)"\s*:\s*(?=\[)')
_OPENING = re.compile(rb"[\[\s]+")
_NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
_BUFFER_TYPES = {"f": "d", "i": "i", "u": "u"}  # numpy kind → simdjson's word for float64, int64, uint64


def split_v1(body: bytes) -> tuple[str | None, str, bytes] | None:
    """Signature name, key (instances or inputs) and the text of its array, when the body is nothing else than that."""
    if (head := _V1_HEAD.match(body)) is None:
        return None
    end = body.rfind(b"}")
    if body[end + 1 :].strip() or body.find(b'"', head.end()) != -1:
        return None
    name, key = head.groups()
    return (name.decode(errors="replace") if name is not None else None), key.decode(), body[head.end() : end]


def read_nested(text: bytes, column: Column) -> Array | None:
    """A nested JSON array of numbers → array with the column's dtype, its shape checked (InvalidInput)."""
    if column.dtype is None or column.dtype.kind not in _BUFFER_TYPES:
        return None
    # Told by its first brackets, before any of it is read: as plain values it would cost thirty times its size.
    if (opened := _OPENING.match(text)) is not None:
        column.check_rank(opened[0].count(b"["))
    try:
        array = simdjson.Parser().parse(text)
        shape = _leading_shape(array)
        values = buffer_of(array, column)
    except (ValueError, TypeError, RuntimeError):
        return None
    if values is None or shape is None or math.prod(shape) != len(values):
        return None
    if text.translate(None, _NUMBER_BYTES) != _brackets(shape):
        return None
    column.check_shape(shape)
    return values.reshape(shape)


def parse_v2(body: bytes, columns: Mapping[str, Column]) -> dict[str, Any] | None:
    """An infer body as plain values, except that flat `data` of known numeric inputs is an array of the input's dtype.
    Knows flat data by its brackets: one for the inputs, one for the outputs, two for each tensor."""
    try:
        document = simdjson.Parser().parse(body)
        if not isinstance(document, simdjson.Object) or not isinstance(document["inputs"], simdjson.Array):
            return None
        entries = list(document["inputs"])
        if body.count(b"[") > 2 + 2 * len(entries):
            return None
        value = {key: _plain(document[key]) for key in document if key != "inputs"}
        inputs = [_v2_entry(entry, columns) for entry in entries]
    except (ValueError, TypeError, RuntimeError, KeyError):
        return None
    return None if any(entry is None for entry in inputs) else value | {"inputs": inputs}


def _v2_entry(entry: Any, columns: Mapping[str, Column]) -> dict[str, Any] | None:
    column, data = columns.get(entry["name"]), entry["data"]
    if column is None or (values := buffer_of(data, column)) is None or len(values) != len(data):
        return None
    return {key: _plain(entry[key]) for key in entry if key != "data"} | {"data": values}


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def buffer_of(array: Any, column: Column) -> Array | None:
    """All numbers of a simdjson array in order, with the column's dtype; None when one does not fit.
    Raises TypeError where the elements are not such numbers."""
    if column.dtype is None or (word := _BUFFER_TYPES.get(column.dtype.kind)) is None:
        return None
    wide = np.frombuffer(array.as_buffer(of_type=word), dtype={"d": "f8", "i": "i8", "u": "u8"}[word])
    if wide.dtype == column.dtype:
        return wide
    if column.dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return wide.astype(column.dtype)
        except FloatingPointError:
            return None
    narrow = wide.astype(column.dtype)
    return narrow if np.array_equal(narrow, wide) else None


def _leading_shape(array: Any) -> tuple[int, ...] | None:
    """Lengths along the first elements; None when it is deeper than any tensor may be or empty somewhere."""
    shape: list[int] = []
    while isinstance(array, simdjson.Array):
        if len(shape) == LIMITS.tensor_rank or len(array) == 0:
            return None
        shape.append(len(array))
        array = array[0]
    return tuple(shape)


def _brackets(shape: tuple[int, ...]) -> bytes:
    """What is left of a JSON array of this shape when the numbers and spaces are taken out."""
    text = b""
    for size in reversed(shape):
        text = b"[" + b",".join([text] * size) + b"]"
    return text
