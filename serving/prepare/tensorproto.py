"""TensorFlow's TensorProto → numpy, from our own field numbers. Decides nothing about whether the tensor is wanted."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.engine.base import NUMPY_DTYPES, Array
from serving.prepare.protos import Messages
from serving.prepare.savedmodel import DTYPES

MAX_BYTES = 256 * 1024 * 1024  # of one tensor: a few bytes can promise any shape

# tensor.proto and tensor_shape.proto.
TENSOR_MESSAGES: Messages = {
    "TensorProto": {
        "dtype": (1, "int32", False),
        "shape": (2, "Shape", False),
        "content": (4, "bytes", False),
        "float_val": (5, "float", True),
        "double_val": (6, "double", True),
        "int_val": (7, "int32", True),
        "string_val": (8, "bytes", True),
        "scomplex_val": (9, "float", True),
        "int64_val": (10, "int64", True),
        "bool_val": (11, "bool", True),
        "dcomplex_val": (12, "double", True),
        "half_val": (13, "int32", True),
        "uint32_val": (16, "uint32", True),
        "uint64_val": (17, "uint64", True),
    },
    "Shape": {"dims": (2, "Dim", True), "unknown_rank": (3, "bool", False)},
    "Dim": {"size": (1, "int64", False)},
}

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


def to_array(tensor: Any) -> Array:
    """The values of a TensorProto. Raise ValueError, as the end of a sentence, when it does not add up."""
    name = DTYPES.get(tensor.dtype)
    if name is None or name not in NUMPY_DTYPES:
        raise ValueError(f"has a dtype that is not read, {name or 'number ' + str(tensor.dtype)}")
    shape = tuple(dim.size for dim in tensor.shape.dims)
    if tensor.shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError("does not say its shape")
    count = math.prod(shape)
    if count * NUMPY_DTYPES[name].itemsize > MAX_BYTES:
        raise ValueError(f"has shape {list(shape)}, which is over {MAX_BYTES} bytes")
    values = _texts(tensor, count) if name == "string" else _numbers(tensor, name, count)
    if len(values) > count or (len(values) < count and tensor.content):
        raise ValueError(f"holds {len(values)} values for shape {list(shape)}")
    return _filled(values, count).reshape(shape)


def _numbers(tensor: Any, name: str, count: int) -> Array:
    dtype = NUMPY_DTYPES[name]
    if tensor.content:
        if len(tensor.content) != count * dtype.itemsize:
            raise ValueError(f"holds {len(tensor.content)} bytes for {count} values of {name}")
        return np.frombuffer(tensor.content, dtype.newbyteorder("<")).astype(dtype)
    field, kept = _VALUES[name]
    try:
        plain = np.array(getattr(tensor, field), kept)
    except OverflowError as error:
        raise ValueError(f"holds a value that is no {name}") from error
    if name == "float16" or name.startswith("complex"):
        if plain.nbytes % dtype.itemsize:
            raise ValueError("ends in the middle of a complex number")
        return plain.view(dtype)
    return plain


def _texts(tensor: Any, count: int) -> Array:
    items = _split(tensor.content, count) if tensor.content else list(tensor.string_val)
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


def _filled(values: Array, count: int) -> Array:
    """TensorFlow's short form: the last value stands for all that are missing, and none at all for zeros."""
    if len(values) == count:
        return values
    filled = np.empty(count, values.dtype)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1] if len(values) else (b"" if values.dtype == object else 0)
    return filled
