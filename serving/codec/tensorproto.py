"""TensorFlow's TensorProto ↔ numpy. Decides nothing about whether a tensor is wanted: `read` compares it with a column.

Its elements stand in `tensor_content` as bytes, or in the field of its dtype one by one; there the last one stands for
all that are missing. Such repetition is not written out, because a few bytes can promise any shape.
"""

import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput
from contracts.limits import LIMITS
from serving.codec.columns import Column, quoted
from serving.codec.example import field, varint
from serving.codec.messages import message_class
from serving.codec.raw import Piece, elements
from serving.engine.base import NUMPY_DTYPES, Array

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
"""DataType of TensorFlow's types.proto → contracts.signature.DTYPES."""

_NUMBERS = {name: number for number, name in DTYPES.items()}

# dtype → (field with its values, numpy dtype of that field, seen as this one in the end).
_VALUES: Mapping[str, tuple[str, str]] = {
    "float32": ("float_val", "float32"),
    "float64": ("double_val", "float64"),
    "int8": ("int_val", "int8"),
    "int16": ("int_val", "int16"),
    "int32": ("int_val", "int32"),
    "uint8": ("int_val", "uint8"),
    "uint16": ("int_val", "uint16"),
    "int64": ("int64_val", "int64"),
    "uint32": ("uint32_val", "uint32"),
    "uint64": ("uint64_val", "uint64"),
    "bool": ("bool_val", "bool"),
    "float16": ("half_val", "uint16"),  # the bits of a half as a number
    "complex64": ("scomplex_val", "float32"),  # real and imaginary parts in turn
    "complex128": ("dcomplex_val", "float64"),
}
_NARROW = frozenset({"int8", "int16", "uint8", "uint16", "float16"})  # than their field
_TENSOR_CLASS = message_class("tensorflow.TensorProto")
_ENTRY, _TENSOR = b"\x0a", b"\x12"  # the tags of field 1, the entry, and of its field 2, the tensor
_CONTENT, _STRING_VAL = b"\x22", 8  # the tag of tensor_content, the number of string_val
_LITTLE = sys.byteorder == "little"


def read(column: Column, tensor: Any) -> Array:
    """The array that a TensorProto brings for an input. Raises InvalidInput naming what was expected and what came."""
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if DTYPES.get(tensor.dtype) != column.spec.dtype:
        got = DTYPES.get(tensor.dtype, f"dtype number {tensor.dtype}")
        raise InvalidInput(f"{column.expected}, got {got} {list(shape[: LIMITS.tensor_rank])}")
    if len(shape) > LIMITS.tensor_rank:
        raise InvalidInput(f"{column.expected}, got {len(shape)} dimensions, at most {LIMITS.tensor_rank} are read")
    column.check_shape(shape)
    try:
        return to_array(tensor, LIMITS.binary_body)
    except ValueError as error:
        raise InvalidInput(f"input {quoted(column.spec.name)} {error}") from None


def to_array(tensor: Any, most_bytes: int) -> Array:
    """The values of a TensorProto of any dtype that numpy has, at most `most_bytes` of them when written out. The array
    must not be written to. Raises ValueError, as the end of a sentence, when it does not add up."""
    name = DTYPES.get(tensor.dtype)
    if name is None or name not in NUMPY_DTYPES:
        raise ValueError(f"has a dtype that is not read, {name or 'number ' + str(tensor.dtype)}")
    dtype = NUMPY_DTYPES[name]
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError("does not say its shape")
    count = math.prod(shape)
    if count * dtype.itemsize > most_bytes:
        raise ValueError(f"has shape {list(shape)}, which is over {most_bytes} bytes")
    content = tensor.tensor_content
    if content and name != "string":
        return _from_content(content, name, count).reshape(shape)
    values = _texts(tensor, content, count) if name == "string" else _numbers(tensor, name)
    if len(values) > count or (len(values) < count and content):
        raise ValueError(f"holds {len(values)} values for shape {list(shape)}")
    return _filled(values, count, shape)


def _from_content(content: bytes, name: str, count: int) -> Array:
    dtype = NUMPY_DTYPES[name]
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"holds {len(content)} bytes for {count} values of {name}")
    if name == "bool" and (np.frombuffer(content, np.uint8) > 1).any():
        raise ValueError("holds a byte that is neither 0 nor 1, the only bytes of a bool")
    values = np.frombuffer(content, dtype.newbyteorder("<"))
    return values if _LITTLE else values.astype(dtype)


def _numbers(tensor: Any, name: str) -> Array:
    dtype = NUMPY_DTYPES[name]
    field, kept = _VALUES[name]
    wide = np.array(getattr(tensor, field))  # protobuf lends its memory: there are no Python numbers between
    plain = wide.astype(kept)
    if name in _NARROW and not np.array_equal(plain, wide):
        raise ValueError(f"holds a value that is no {name}")
    if name == "float16" or name.startswith("complex"):
        if plain.nbytes % dtype.itemsize:
            raise ValueError("ends in the middle of a complex number")
        return plain.view(dtype)
    return plain


def _texts(tensor: Any, content: bytes, count: int) -> Array:
    items = _split(content, count) if content else list(tensor.string_val)
    texts = np.empty(len(items), object)
    texts[:] = items
    return texts


def _split(content: bytes, count: int) -> list[bytes]:
    """Texts as tensor_content holds them: all lengths as varints, then all bytes."""
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                raise ValueError("ends within the lengths of its texts")
            byte = content[at]
            length, shift, at = length | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError(f"holds {len(content) - at} bytes of text where its lengths say {sum(lengths)}")
    items = []
    for length in lengths:
        items.append(content[at : at + length])
        at += length
    return items


def _filled(values: Array, count: int, shape: tuple[int, ...]) -> Array:
    """TensorFlow's short form: the last value stands for all that are missing, and none at all for zeros."""
    if len(values) == count:
        return values.reshape(shape)
    last = values[-1:] if len(values) else np.array([b"" if values.dtype == object else 0], values.dtype)
    if len(values) <= 1:
        return np.broadcast_to(last, shape) if shape else last.reshape(())
    return np.concatenate([values, np.broadcast_to(last, count - len(values))]).reshape(shape)


def entry(name: str, array: Array) -> tuple[bytes, list[Piece]]:
    """An output as an entry of a map<string, TensorProto> that has field number 1: what stands before its elements, and
    the elements, to be joined; numbers are not copied before that. Raises InvalidInput for a dtype that TensorFlow does
    not have."""
    text = array.dtype.kind == "O"
    head = _head(name, "string" if text else _name_of(array.dtype), array.shape)
    if text:
        body: list[Piece] = [field(_STRING_VAL, item) for item in array.reshape(-1).tolist()]
        size = sum(map(len, body))
    else:
        size = array.nbytes
        body = [_CONTENT + varint(size), elements(array)] if size else []
        size += len(body[0]) if size else 0
    value = _TENSOR + varint(len(head.tensor) + size)
    return (
        _ENTRY + varint(len(head.key) + len(value) + len(head.tensor) + size) + head.key + value + head.tensor,
        body,
    )


class _Head(NamedTuple):
    """What is the same in every answer with this output: its name, and its tensor up to the elements."""

    key: bytes
    tensor: bytes


@lru_cache(maxsize=1024)
def _head(name: str, dtype: str, shape: tuple[int, ...]) -> _Head:
    number = _NUMBERS.get(dtype)
    if number is None:
        raise InvalidInput(f"output {quoted(name)} has dtype {dtype}, which TensorFlow has no number for")
    tensor = _TENSOR_CLASS(dtype=number)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return _Head(field(1, name.encode()), tensor.SerializeToString())


@lru_cache(maxsize=64)
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name  # numpy makes this name up anew each time
