"""Arrays as numpy saves them (`.npy`): a short header that names dtype and shape, and the bytes of the array.

numpy's own reader evaluates the header as a Python literal and unpickles objects; here the header has to look as
numpy writes it, nothing is evaluated, and only numbers are read.
"""

import io
import math
import re

import numpy as np

from contracts.errors import InvalidInput
from contracts.limits import LIMITS
from serving.codec.columns import Column, quoted
from serving.engine.base import Array

START = b"\x93"
"""The first byte of every such file, and of no JSON text."""

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1024  # bytes; numpy writes 118 for any ordinary array
_DESCR = rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[a-zA-Z]\d{0,3})['"]"""
_ORDER = rb"""['"]fortran_order['"]\s*:\s*(True|False)"""
_SHAPE = rb"""['"]shape['"]\s*:\s*\(([0-9, ]*)\)"""
_ITEM = b"(?:" + b"|".join((_DESCR, _ORDER, _SHAPE)) + b")"
_HEADER = re.compile(rb"\s*\{\s*" + _ITEM + rb"\s*,\s*" + _ITEM + rb"\s*,\s*" + _ITEM + rb"\s*,?\s*\}\s*")
_KEYS = tuple(map(re.compile, (_DESCR, _ORDER, _SHAPE)))


def read(column: Column, body: bytes) -> Array:
    """The array in `body`, which stays its memory. Raises InvalidInput for what is no such file and for a dtype or a
    shape the model does not take."""
    descr, fortran, shape, start = _read_header(body)
    column.check_shape(shape)
    wanted = column.dtype
    if wanted is None or wanted.kind == "O":
        raise InvalidInput(f"{column.expected}, which is not read from .npy bodies: send it as JSON")
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise InvalidInput(f"{column.expected}, got an array of the unknown dtype {quoted(descr)}") from None
    if dtype.newbyteorder("=") != wanted:
        raise InvalidInput(f"{column.expected}, got an array of dtype {quoted(dtype.name)}")
    size = math.prod(shape) * dtype.itemsize
    if len(body) - start != size:
        raise InvalidInput(
            f"input {quoted(column.spec.name)}: an array of {dtype.name} {list(shape)} has {size} bytes, "
            f"{len(body) - start} follow the header"
        )
    data = memoryview(body)[start:]
    if dtype.kind == "b" and (np.frombuffer(data, np.uint8) > 1).any():
        raise InvalidInput(f"input {quoted(column.spec.name)}: a bool is a byte of 0 or 1")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.asarray(array, wanted, order="C")  # not ascontiguousarray, which gives a scalar a dimension


def _read_header(body: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """dtype in numpy's short form, whether the first dimension varies fastest, shape, and where the numbers begin."""
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(bytes(body[6:8]))  # bytes of the header's length, by version
    if bytes(body[:6]) != _MAGIC or width is None:
        raise InvalidInput("the body is no .npy file of version 1, 2 or 3")
    begin = 8 + width
    length = int.from_bytes(body[8:begin], "little")
    end = begin + length
    if len(body) < end or length > _LONGEST_HEADER:
        raise InvalidInput(f"the .npy header of {length} bytes does not fit: expected at most {_LONGEST_HEADER}")
    header = bytes(body[begin:end])
    found = [key.search(header) for key in _KEYS]
    if _HEADER.fullmatch(header) is None or not all(found):
        raise InvalidInput("the .npy header is not the one numpy writes for an array of plain numbers")
    descr, order, dims = [match[1].decode() for match in found if match is not None]
    shape = [dim.strip() for dim in dims.split(",")]
    if shape[-1] == "":  # the comma of (3,), or nothing at all in ()
        shape.pop()
    if not all(dim.isdigit() for dim in shape) or len(shape) > LIMITS.tensor_rank:
        raise InvalidInput(f"the .npy header names no shape of at most {LIMITS.tensor_rank} dimensions")
    return descr, order == "True", tuple(map(int, shape)), end


def write(name: str, array: Array) -> bytes:
    """Raises InvalidInput for a string tensor, which only pickle could carry."""
    if array.dtype.kind == "O":
        raise InvalidInput(f"output {quoted(name)} holds strings, which a .npy answer cannot carry: ask for JSON")
    array = np.asarray(array, order="C")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return b"".join([head.getvalue(), array.data])
