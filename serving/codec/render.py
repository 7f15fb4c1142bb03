"""Arrays → JSON text. Floats are written as the shortest text that reads back the same in their own precision.

orjson writes NaN and infinities as `null`. What to do about that is the protocol's choice, so nothing here returns
such a `null`: the callers get tokens, or an error.
"""

import base64
from typing import Any

import numpy as np
import orjson

from contracts.errors import InvalidInput
from serving.codec.columns import quoted
from serving.engine.base import Array

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_KINDS = frozenset("biuf")
_B64_ALIAS = 'give the output an alias that ends in "_bytes" to receive base64'


def dump(value: Any) -> bytes:
    """Plain values, text and numbers, as JSON."""
    return orjson.dumps(value)


def dump_numbers(name: str, array: Array, way_out: str = "") -> tuple[bytes, bool]:
    """The array as nested JSON lists, and whether `null` stands in it for values that are not finite.
    Raises InvalidInput for a dtype JSON has no numbers for; `way_out` says what the caller can do then."""
    if array.dtype.kind not in _KINDS or array.dtype == np.float16:
        hint = f": {way_out}" if way_out else ""
        raise InvalidInput(f"output {quoted(name)} has dtype {array.dtype}, which has no form in JSON{hint}")
    if array.ndim == 0:
        text = orjson.dumps(array[()], option=_OPTIONS)
    else:
        text = orjson.dumps(array if array.flags.c_contiguous else np.ascontiguousarray(array), option=_OPTIONS)
    return text, b"null" in text


def with_tokens(text: bytes, array: Array) -> bytes:
    """Replace the nulls of `dump_numbers` by the bare tokens NaN, Infinity and -Infinity, in order."""
    values = array[~np.isfinite(array)] if array.ndim else array.reshape(1)
    pieces = text.split(b"null")
    out = [pieces[0]]
    for value, piece in zip(values.tolist(), pieces[1:], strict=True):
        token = b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity"  # noqa: PLR0124 - NaN
        out += (token, piece)
    return b"".join(out)


def texts(name: str, array: Array, way_out: str = _B64_ALIAS) -> Any:
    """A string tensor as nested lists of text. Bytes that are no UTF-8 raise InvalidInput with the way out."""
    try:
        return _map(array, bytes.decode)
    except UnicodeDecodeError:
        raise InvalidInput(
            f"output {quoted(name)} holds bytes that are not UTF-8, which JSON cannot carry: {way_out}"
        ) from None


def b64_objects(array: Array) -> Any:
    """A string tensor as nested lists of `{"b64": …}`."""
    return _map(array, lambda item: {"b64": base64.b64encode(item).decode()})


def _map(array: Array, function: Any) -> Any:
    mapped = np.empty(array.shape, object)
    flat = mapped.reshape(-1)
    for i, item in enumerate(array.reshape(-1).tolist()):
        flat[i] = function(item)
    return mapped.tolist()
