"""Features → a serialized tf.Example, the protocol buffer that classify and regress models parse. Needs no TensorFlow.

Example {features=1}   Features {map<string, Feature> feature=1}
Feature {BytesList=1 | FloatList=2 | Int64List=3}, each with `repeated value=1`, numbers packed
"""

import struct
from collections.abc import Mapping, Sequence

Feature = Sequence[bytes] | Sequence[float] | Sequence[int]
"""Values of one type: bytes, float or int; no values at all are a feature of no kind."""

_BYTES, _FLOATS, _INTS = 1, 2, 3
_TWO_TO_64 = 1 << 64


def serialize(features: Mapping[str, Feature]) -> bytes:
    """Integers must fit into 64 bits and floats into 32 (struct.error, OverflowError)."""
    entries = [field(1, field(1, name.encode()) + field(2, _feature(values))) for name, values in features.items()]
    return field(1, b"".join(entries))


def _feature(values: Feature) -> bytes:
    if not values:
        return b""
    if isinstance(values[0], bytes):
        return field(_BYTES, b"".join([field(1, value) for value in values if isinstance(value, bytes)]))
    if isinstance(values[0], float):
        return field(_FLOATS, field(1, struct.pack(f"<{len(values)}f", *values)))
    return field(_INTS, field(1, b"".join([varint(value % _TWO_TO_64) for value in values if isinstance(value, int)])))


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field of text, bytes or a message (wire type 2): its number, its length and itself."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """A protobuf number of at least 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
