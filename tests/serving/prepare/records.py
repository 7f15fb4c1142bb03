"""Writes warm-up files as TensorFlow Serving's clients do, byte by byte."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.prepare.tfrecord import crc32c
from serving.prepare.warmup_records import FILE


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field: text, bytes, or a message."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def varint(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def tensor(dtype: int, shape: Sequence[int], content: bytes) -> bytes:
    dims = b"".join(field(2, varint(1, size)) for size in shape)
    return varint(1, dtype) + field(2, dims) + field(4, content)


def floats(array: Any) -> bytes:
    return tensor(1, array.shape, array.astype("<f4").tobytes())


def texts(*items: bytes) -> bytes:
    return varint(1, 7) + field(2, field(2, varint(1, len(items)))) + b"".join(field(8, item) for item in items)


def predict(inputs: Mapping[str, bytes], signature: str = "") -> bytes:
    """A PredictionLog of a Predict call."""
    entries = b"".join(field(2, field(1, name.encode()) + field(2, value)) for name, value in inputs.items())
    model = field(1, field(1, b"anything") + (field(3, signature.encode()) if signature else b""))
    return field(6, field(1, model + entries))


def classify(examples: Sequence[bytes], context: bytes | None = None, signature: str = "") -> bytes:
    listed = b"".join(field(1, example) for example in examples)
    given = field(1, listed) if context is None else field(2, listed + field(2, context))
    return field(2, field(1, field(1, field(3, signature.encode())) + field(2, given)))


def masked(data: bytes) -> bytes:
    checksum = crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def write(saved_model: Path, *records: bytes) -> Path:
    path = saved_model / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(framed, records)))
    return path
