"""The quick reading of small float tensors: what the text of a body tells about all its values at once.

Reading a list value by value costs most of a small prediction. When the text holds no strings but the expected ones
and no `true` or `false`, everything in the list is a number, and numpy may read it in one call. Whatever is the least
bit unusual is left to columns.py, which looks at every value and can say what is wrong with it.
"""

import math
from typing import Any

import numpy as np

from serving.codec.columns import Column
from serving.engine.base import Array


def only_numbers(body: bytes, strings: int) -> bool:
    """Whether a parsed JSON body with `strings` known strings, keys included, has numbers for all its other values.

    Nulls, objects and ragged lists may still be there; numpy refuses those by itself."""
    if body.count(b'"') != 2 * strings:
        return False
    # One letter is found many times faster than a word, and mostly it is not there.
    return (b"r" not in body or b"true" not in body) and (b"f" not in body or b"false" not in body)


def read_rows(column: Column, value: Any) -> Array | None:
    """A nested list of numbers → array of the column's shape, or None when the careful way has to look."""
    if column.float_rows is None:
        return None
    array = _array(column, value)
    return array if array is not None and array.shape[1:] == column.float_rows and array.shape[0] else None


def read_shaped(column: Column, value: Any, shape: Any) -> Array | None:
    """A flat list of numbers with a shape beside it → array, or None when the careful way has to look."""
    if column.float_rows is None or type(shape) is not list or tuple(shape[1:]) != column.float_rows:
        return None
    for size in shape:
        if type(size) is not int or size < 1:
            return None
    array = _array(column, value)
    return array.reshape(shape) if array is not None and array.shape == (math.prod(shape),) else None


def _array(column: Column, value: Any) -> Array | None:
    if type(value) is not list:
        return None
    try:
        array = np.array(value, column.dtype)
    except (ValueError, TypeError, OverflowError):  # ragged, null, object, or a whole number beyond any double
        return None
    except RuntimeWarning:  # a number beyond the dtype, where warnings are errors
        return None
    # The sum of squares is the cheapest way to see that no number is beyond the dtype. That it also stops at large but
    # fine numbers only costs those the careful way.
    flat = array if array.ndim == 1 else array.ravel()
    return array if flat.dot(flat) < math.inf else None
