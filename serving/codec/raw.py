"""Tensors as plain bytes: little-endian, row-major, no padding; a BYTES element is its length in 4 bytes and itself.

The Open Inference Protocol's binary tensors, over any transport. Numbers are never copied: an array looks into the
bytes it came in. How the bytes travel, and what stands around them, is the protocol's business.
"""

import math
import struct
import sys
from collections.abc import Sequence
from itertools import chain

import numpy as np

from contracts.errors import InvalidInput
from serving.codec.columns import Column, quoted
from serving.engine.base import Array

Piece = bytes | memoryview

_LENGTH = struct.Struct("<I")
_LONGEST = 2**32 - 1  # bytes of a BYTES element
_SWAPPED = ">" if sys.byteorder == "little" else "="  # numpy's word for a byte order that is not the wire's


class Blobs:
    """The binary part of a message, handed out in the order of its tensors."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, column: Column, size: int) -> memoryview:
        """The next `size` bytes. Raises InvalidInput when fewer are left."""
        if size > len(self._data):
            raise InvalidInput(
                f'input {quoted(column.spec.name)}: "binary_data_size" is {size}, but only {len(self._data)} bytes of '
                "binary data are left in the body"
            )
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def check_empty(self) -> None:
        """Raise InvalidInput when bytes are left that belong to no tensor."""
        if self._data:
            raise InvalidInput(f"{len(self._data)} bytes at the end of the body belong to no input")


def decode(column: Column, shape: tuple[int, ...], data: memoryview) -> Array:
    """The tensor of this shape in `data`, which stays its memory. Raises InvalidInput when the bytes are not exactly
    those the shape calls for, or the model's dtype is one nobody here computes with."""
    name, count = quoted(column.spec.name), math.prod(shape)
    dtype = column.dtype
    if dtype is None:
        raise InvalidInput(f"{column.expected}, a dtype this server does not take from callers")
    if dtype.kind == "O":
        return _decode_bytes(name, count, data).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(
            f"input {name}: shape {list(shape)} of {dtype} needs {count * dtype.itemsize} bytes, got {len(data)}"
        )
    if dtype.kind == "b" and (wrong := np.frombuffer(data, np.uint8) > 1).any():
        raise InvalidInput(f"input {name}: byte {int(wrong.argmax())} is neither 0 nor 1, the only bytes of a BOOL")
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)


def _decode_bytes(name: str, count: int, data: memoryview) -> Array:
    if count > len(data) // _LENGTH.size:  # also keeps a shape from reserving memory nobody sent
        raise InvalidInput(f"input {name}: {count} elements need at least {4 * count} bytes, got {len(data)}")
    array, at, end = np.empty(count, object), 0, len(data)
    for i in range(count):
        start = at + _LENGTH.size
        if start > end or (at := start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]) > end:
            raise InvalidInput(f"input {name}: the binary data ends inside of element {i}")
        array[i] = bytes(data[start:at])
    if at != end:
        raise InvalidInput(f"input {name}: {end - at} bytes follow the last of {count} elements")
    return array


def decode_whole(column: Column, batched: bool, data: memoryview) -> Array:
    """A body that is one tensor and nothing else: one row of a batched signature; the one dimension that may be open
    is as long as the bytes make it. A string tensor must have a single element, which is then all of the bytes.
    Raises InvalidInput where the shape does not follow from the number of bytes."""
    spec, name = column.spec, quoted(column.spec.name)
    if column.dtype is None:
        raise InvalidInput(f"{column.expected}, a dtype this server does not take from callers")
    if spec.shape is None:
        raise InvalidInput(f"{column.expected}: the shape does not follow from the number of bytes; send it as JSON")
    dims = (1, *spec.shape[1:]) if batched else spec.shape
    if column.dtype.kind == "O":
        single = np.empty(1, object)
        single[0] = bytes(data)
        shape = tuple([1 if dim is None else dim for dim in dims])
        if math.prod(shape) != 1:
            raise InvalidInput(f"{column.expected}: only a single element can be sent without lengths")
        return single.reshape(shape)
    if dims.count(None) > 1:
        raise InvalidInput(f"{column.expected}: the shape does not follow from the number of bytes; send it as JSON")
    known = math.prod([dim for dim in dims if dim is not None]) * column.dtype.itemsize
    if not data or known == 0 or len(data) % known:
        raise InvalidInput(f"input {name}: one row takes a multiple of {known} bytes, got {len(data)}")
    return decode(column, tuple([len(data) // known if dim is None else dim for dim in dims]), data)


def elements(array: Array) -> Piece:
    """The bytes of an array of numbers. In C order they are not copied."""
    if array.dtype.kind == "V":  # bfloat16, which numpy does not lend as a buffer
        return array.tobytes()
    if array.dtype.byteorder == _SWAPPED:
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).data


def encode(array: Array) -> tuple[Sequence[Piece], int]:
    """The bytes of a tensor in pieces ready for `b"".join`, and how many they are. Numbers in C order are not copied.
    Raises InvalidInput for an element longer than its length field can say."""
    if array.dtype.kind != "O":
        return (elements(array),), array.nbytes
    items: list[bytes] = array.reshape(-1).tolist()
    lengths = list(map(len, items))
    if max(lengths, default=0) > _LONGEST:
        raise InvalidInput(f"an element is longer than {_LONGEST} bytes")
    pieces = list(chain.from_iterable(zip(map(_LENGTH.pack, lengths), items, strict=True)))
    return pieces, sum(lengths) + _LENGTH.size * len(items)
