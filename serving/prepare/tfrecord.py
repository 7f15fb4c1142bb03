"""Reads TFRecord files, every checksum checked. Knows nothing of what the records hold.

A record is its length (8 bytes, little-endian), the masked CRC-32C of the length, the bytes, and their masked CRC-32C.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from contracts.errors import InvalidInput
from serving.engine.base import Array

MAX_RECORD_BYTES = 256 * 1024 * 1024

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_ALL_ONES = 0xFFFFFFFF
_LANES = 512  # pieces of a record whose checksums are computed side by side: numpy pays per step, not per lane


def read_records(path: Path, what: str) -> Iterator[bytes]:
    """The records of the file, one by one. Raise InvalidInput, naming `what` and the record, for bytes that are no
    TFRecord, a record cut short, a wrong checksum, or one over MAX_RECORD_BYTES."""
    left = path.stat().st_size
    with path.open("rb") as stream:
        number = 0
        while left:
            header = stream.read(12)
            if len(header) < 12 or _masked(crc32c(header[:8])) != struct.unpack("<I", header[8:])[0]:
                raise InvalidInput(f"{what}: record {number} has a damaged or unfinished length: write the file again")
            (length,) = struct.unpack("<Q", header[:8])
            left -= 12 + length + 4
            if left < 0:
                raise InvalidInput(f"{what}: record {number} is cut short by {-left} bytes: write the file again")
            if length > MAX_RECORD_BYTES:
                raise InvalidInput(
                    f"{what}: record {number}: expected at most {MAX_RECORD_BYTES} bytes, got {length}: leave it out"
                )
            body = stream.read(length)
            (checksum,) = struct.unpack("<I", stream.read(4))
            if _masked(crc32c(body)) != checksum:
                raise InvalidInput(f"{what}: record {number} is damaged, its checksum is wrong: write the file again")
            yield body
            number += 1


def _masked(checksum: int) -> int:
    """TFRecord's own twist, so that a checksum of data that holds checksums stays a good one."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & _ALL_ONES


def _table() -> Array:
    states = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = np.where(states & 1, states >> 1 ^ np.uint32(_POLYNOMIAL), states >> 1)
    return states.astype(np.uint32)


_TABLE = _table()
_PLAIN_TABLE: list[int] = _TABLE.tolist()


def crc32c(data: bytes) -> int:
    step = len(data) // _LANES
    state = _ALL_ONES
    if step:
        state = _in_lanes(np.frombuffer(data, np.uint8, step * _LANES).reshape(_LANES, step))
    for byte in data[step * _LANES :]:
        state = _PLAIN_TABLE[(state ^ byte) & 255] ^ state >> 8
    return state ^ _ALL_ONES


def _in_lanes(pieces: Array) -> int:
    """The register after all rows of `pieces`, computed row beside row.

    The register is linear in its start and its data over GF(2). So every row starts from zero, and 32 more lanes of
    zero bytes show what one piece's length does to each bit of the register that the rows before left behind.
    """
    lanes, step = pieces.shape
    states = np.zeros(lanes + 32, np.uint32)
    states[lanes:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    columns = np.zeros((step, lanes + 32), np.uint8)
    columns[:, :lanes] = pieces.T
    for column in columns:
        states = _TABLE[(states ^ column) & 255] ^ states >> 8
    moved: list[int] = states[lanes:].tolist()
    register = _ALL_ONES
    for own in states[:lanes].tolist():
        shifted = own
        while register:
            lowest = register & -register
            shifted ^= moved[lowest.bit_length() - 1]
            register ^= lowest
        register = shifted
    return register
