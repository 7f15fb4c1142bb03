"""Bytes → plain JSON values, strictly or as TensorFlow Serving reads them. Knows nothing of tensors.

orjson does the work. TensorFlow Serving also takes bare NaN and Infinity tokens and ignores what follows the first
complete value; bodies that need this are read again by the standard library, which is ten times slower.
"""

import json
import math
import re
from typing import Any

import orjson

from contracts.errors import InvalidInput

_LONG_NUMBER = re.compile(rb"\d{19}")
_TRAILING = "unexpected content after document"


def parse_strict(body: bytes) -> Any:
    """One RFC 8259 value and nothing else. Raises InvalidInput saying where it stops being JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(_not_json(body, error)) from None


def parse_tolerant(body: bytes) -> Any:
    """As TensorFlow Serving: NaN, Infinity and -Infinity are numbers, bytes after the first value are ignored.

    A number too big for a double and a key that stands twice in one object raise InvalidInput, as does any other
    departure from JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body and _TRAILING not in error.msg:
            raise InvalidInput(_not_json(body, error)) from None
    return _decode(body)


def parse_exact(body: bytes) -> Any:
    """As `parse_tolerant`, and whole numbers beyond 64 bits stay whole, where orjson makes them floats."""
    return _decode(body) if _LONG_NUMBER.search(body) else parse_tolerant(body)


def _decode(body: bytes) -> Any:
    try:
        value, _ = _DECODER.raw_decode(body.decode().lstrip(" \t\r\n"))
    except RecursionError:
        raise InvalidInput("body is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
        raise InvalidInput(f"body is not JSON: {error}") from None
    return value


def reject_repeated_keys(body: bytes, keys: tuple[bytes, ...]) -> None:
    """Raise InvalidInput when one of `keys` (quoted, as written) stands twice in one object of the body: which of the
    two was meant is anybody's guess. Costs a look-up per key unless something stands twice somewhere."""
    if any(body.count(key) > 1 for key in keys):
        reject_any_repeated_key(body)


def reject_any_repeated_key(body: bytes) -> None:
    """Raise InvalidInput when any key stands twice in one object. Reads the whole body, slowly."""
    try:
        _STRICT_DECODER.raw_decode(body.decode().lstrip(" \t\r\n"))
    except RecursionError:
        raise InvalidInput("body is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"body is not JSON: {error}") from None


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper than `limit`. Iterative, so that no depth can hurt."""
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in level:
            if type(item) is list:
                below.extend(item)
            elif type(item) is dict:
                below.extend(item.values())
        if not below:
            return False
        level = below
    return any(type(item) in (list, dict) for item in level)


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "body is empty: expected a JSON object"
    if error.msg.startswith("depth limit"):
        return "body is nested too deeply"
    return f"body is not JSON: {error.msg}"


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"number {text[:20]} is too big for a double")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(parse_float=_finite)
_STRICT_DECODER = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_unique)
