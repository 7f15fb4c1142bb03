"""Plain JSON values → one tensor, checked against its TensorSpec. Both protocols stand on this.

A value that does not fit raises InvalidInput naming the tensor, what was expected and what came; nothing is converted
silently, and nothing is allocated before the shape is known to be right.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from contracts.errors import InvalidInput, Unsupported
from contracts.limits import LIMITS
from contracts.signature import Signature, TensorSpec
from serving.engine.base import NUMPY_DTYPES, Array

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
_JSON_DTYPES = frozenset({"bool", "float32", "float64", "string", *_INTEGERS})
_NUMBERS, _WHOLE, _TRUTH = frozenset((float, int)), frozenset((int,)), frozenset((bool,))
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_B64 = "b64"
_KIND_WORDS = {
    bool: "true/false", int: "a whole number", float: "a number with a fraction", str: "text", dict: "an object",
    list: "a list", type(None): "null",
}  # fmt: skip


class Column:
    """Reads one input of a signature. Made once per input; `read` is on the hot path."""

    def __init__(self, spec: TensorSpec, batched: bool) -> None:
        self.spec = spec
        self.expected = f"input {quoted(spec.name)}: expected {describe(spec, batched)}"
        self.in_json = spec.dtype in _JSON_DTYPES
        self.dtype = NUMPY_DTYPES.get(spec.dtype)
        self._convert = {"float32": _float32, "float64": _float64, "bool": _bool, "string": _string}.get(
            spec.dtype, _integer
        )
        self._shape = spec.shape
        # Where only the number of rows is open, one comparison settles the shape.
        fixed = spec.shape is not None and spec.shape[:1] == (None,) and None not in spec.shape[1:]
        self._row_shape = spec.shape[1:] if fixed and spec.shape is not None else None
        # For plain.py: the shape of a row of floats, where nothing but the number of rows is open.
        self.float_rows = self._row_shape if spec.dtype in ("float32", "float64") else None

    def read(self, value: Any) -> Array:
        """A (nested) list or a bare value → array. Raises InvalidInput; Unsupported for a dtype JSON cannot carry."""
        if not self.in_json:
            raise Unsupported(f"{self.expected}, which has no form in JSON")
        shape, flat = self.flatten(value)
        self.check_shape(shape)
        return self.convert(flat).reshape(shape)

    def convert(self, flat: Sequence[Any]) -> Array:
        """Plain values → one-dimensional array. Raises InvalidInput naming the first value that does not fit."""
        return self._convert(self, flat)

    def flatten(self, value: Any) -> tuple[tuple[int, ...], list[Any]]:
        """Shape of a nested list and its elements in row-major order; InvalidInput when it is ragged."""
        if type(value) is not list:
            return (), [value]
        level, shape = value, [len(value)]
        while level and type(level[0]) is list:
            if len(shape) == LIMITS.tensor_rank:
                raise InvalidInput(f"{self.expected}, got a list nested deeper than {LIMITS.tensor_rank}")
            width = len(level[0])
            if set(map(type, level)) != {list} or set(map(len, level)) != {width}:
                raise InvalidInput(f"{self.expected}, got ragged rows: {_first_ragged(level, shape, width)}")
            level = list(chain.from_iterable(level))
            shape.append(width)
        return tuple(shape), level

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidInput for a shape the model does not take."""
        if shape and shape[1:] == self._row_shape:
            return
        dims = self._shape
        if dims is None:
            return
        if len(shape) != len(dims) or any(d is not None and d != n for d, n in zip(dims, shape, strict=True)):
            raise InvalidInput(f"{self.expected}, got shape {list(shape)}")

    def check_rank(self, rank: int) -> None:
        """Raise InvalidInput for a list nested as no shape of the model's is."""
        if self._shape is not None and rank != len(self._shape):
            raise InvalidInput(f"{self.expected}, got a list nested {rank} deep")

    def wrong_kind(self, flat: Sequence[Any], allowed: tuple[type, ...]) -> InvalidInput:
        i, bad = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
        if type(bad) is list:
            return InvalidInput(f"{self.expected}, got ragged rows: value {i} is a list beside single values")
        return InvalidInput(f"{self.expected}, got {_KIND_WORDS.get(type(bad), 'something else')} as value {i}")


def describe(spec: TensorSpec, batched: bool) -> str:
    """A spec as an error message shows it: the row dimension is called `rows`."""
    if not batched or not spec.shape:
        return str(spec)
    return f"{spec.dtype} [{', '.join(['rows', *('?' if d is None else str(d) for d in spec.shape[1:])])}]"


def quoted(name: str) -> str:
    """A name from outside, fit for one line of text."""
    return '"' + name[:80].encode("unicode_escape").decode().replace('"', '\\"') + '"'


def row_count(signature: Signature, inputs: dict[str, Array]) -> int:
    """Rows of a request: the common first dimension of a batched signature's inputs (InvalidInput when they differ
    or there are none), 1 for a signature whose rows must not be joined."""
    if not signature.batched:
        return 1
    counts = [len(array) for array in inputs.values()]
    rows = counts[0]
    if len(counts) > 1 and len(set(counts)) != 1:
        shown = ", ".join(f"{quoted(name)} {count}" for name, count in zip(inputs, counts, strict=True))
        raise InvalidInput(f"inputs must have the same number of rows, got {shown}")
    if rows == 0:
        raise InvalidInput("expected at least one row, got none")
    return rows


def decode_b64(text: Any) -> bytes:
    """The bytes of a `{"b64": text}` object; InvalidInput when it is not base64."""
    if type(text) is not str:
        raise InvalidInput('the value of "b64" must be text')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{quoted(text[:20])} is not base64") from None


def is_b64(value: Any) -> bool:
    """Whether a JSON value is a `{"b64": …}` object."""
    return type(value) is dict and len(value) == 1 and _B64 in value


def _float32(column: Column, flat: Sequence[Any]) -> Array:
    if not _NUMBERS.issuperset(map(type, flat)):
        raise column.wrong_kind(flat, (float, int))
    try:
        # struct refuses what does not fit into 32 bits, where numpy would make it infinite; it is no slower.
        packed = struct.pack(f"<{len(flat)}f", *flat)
    except (OverflowError, struct.error):  # the latter for whole numbers beyond even a double
        bad = next(v for v in flat if _FLOAT32_MAX < abs(v) != math.inf)
        raise InvalidInput(f"{column.expected}, got {str(bad)[:30]}, which is out of range") from None
    return np.frombuffer(packed, "<f4")


def _float64(column: Column, flat: Sequence[Any]) -> Array:
    if not _NUMBERS.issuperset(map(type, flat)):
        raise column.wrong_kind(flat, (float, int))
    try:
        return np.array(flat, np.float64)
    except OverflowError:
        raise InvalidInput(f"{column.expected}, got a number that is out of range") from None


def _integer(column: Column, flat: Sequence[Any]) -> Array:
    if not _WHOLE.issuperset(map(type, flat)):
        raise column.wrong_kind(flat, (int,))
    try:
        return np.array(flat, column.dtype)
    except OverflowError:
        limits = np.iinfo(column.spec.dtype)
        bad = next(v for v in flat if not int(limits.min) <= v <= int(limits.max))
        raise InvalidInput(f"{column.expected}, got {str(bad)[:30]}, which is out of range") from None


def _bool(column: Column, flat: Sequence[Any]) -> Array:
    if not _TRUTH.issuperset(map(type, flat)):
        raise column.wrong_kind(flat, (bool,))
    return np.array(flat, np.bool_)


def _string(column: Column, flat: Sequence[Any]) -> Array:
    array = np.empty(len(flat), object)
    for i, item in enumerate(_texts(column, flat)):
        array[i] = item
    return array


def _texts(column: Column, flat: Sequence[Any]) -> Iterator[bytes]:
    for value in flat:
        if type(value) is str:
            try:
                yield value.encode()
            except UnicodeEncodeError:
                raise InvalidInput(f"{column.expected}, got text with half a surrogate pair") from None
        elif is_b64(value):
            try:
                yield decode_b64(value[_B64])
            except InvalidInput as error:
                raise InvalidInput(f"{column.expected}, {error.message}") from None
        elif type(value) is dict:
            raise InvalidInput(f'{column.expected}, got an object that is not {{"b64": …}}')
        else:
            raise column.wrong_kind(flat, (str, dict))


def _first_ragged(level: list[Any], shape: list[int], width: int) -> str:
    i = next(i for i, item in enumerate(level) if type(item) is not list or len(item) != width)
    row = i // math.prod(shape[1:])
    if type(level[i]) is not list:
        return f"row {row} holds a single value where a list belongs"
    if len(shape) == 1:
        return f"row {row} has {len(level[i])} values"
    return f"in row {row} a list has {len(level[i])} values, its neighbours {width}"
