"""What a JPEG or PNG says about itself, read from its own bytes, and the parts of it that hold pixels.

`header` looks at the beginning only and is cheap enough for the event loop. `essence` leaves out everything a decoder
does not need for pixels: texts and colour profiles that unpack to a thousand times their size, previews, further
frames. What is left is for pixels.py.
"""

import struct
from typing import NamedTuple

from contracts.errors import InvalidInput

JPEG, PNG = "JPEG", "PNG"
MOST_PARTS = 65_536  # segments or chunks; a PNG of 16 MiB as libpng writes it has two thousand
MOST_SCANS = 64  # of a progressive JPEG: each is a pass over all of it, and encoders make ten

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_OTHERS = {b"GIF8": "a GIF", b"RIFF": "a WebP", b"BM": "a BMP", b"<svg": "an SVG", b"<?xml": "an SVG", b"%PDF": "a PDF"}
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's start of frame, without the tables between
_SCAN, _EXIF, _JFIF, _ADOBE, _COMMENT = 0xDA, 0xE1, 0xE0, 0xEE, 0xFE
_ORIENTATION = 0x0112
_KEPT_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


class Header(NamedTuple):
    """What kind of picture it is, and its size in pixels before it is turned upright."""

    kind: str
    width: int
    height: int


class Essence(NamedTuple):
    """The picture without anything that is not pixels. `orientation` is EXIF's: 1 for upright, 2 to 8 else."""

    data: bytes
    orientation: int


def header(body: bytes) -> Header:
    """Raises InvalidInput for what is neither JPEG nor PNG, and for one without a size."""
    if body.startswith(_JPEG_START):
        for marker, start, end in _segments(body):
            if marker in _SIZES and end - start >= 5:
                height, width = struct.unpack_from(">HH", body, start + 1)
                return _checked(JPEG, width, height)
        raise InvalidInput("the JPEG has no picture in it")
    if body.startswith(_PNG_START):
        if body[8:16] != b"\0\0\0\x0dIHDR" or len(body) < 33:
            raise InvalidInput("the PNG does not begin with its header, IHDR")
        return _checked(PNG, *struct.unpack_from(">II", body, 16))
    what = next((name for start, name in _OTHERS.items() if body.startswith(start)), "something else")
    raise InvalidInput(f"expected a JPEG or PNG picture, got {what}" if body else "expected a picture, got no bytes")


def essence(kind: str, body: bytes) -> Essence:
    """Raises InvalidInput for a picture that ends too early or has more parts than any picture needs."""
    return _jpeg(body) if kind == JPEG else _png(body)


def _checked(kind: str, width: int, height: int) -> Header:
    if width == 0 or height == 0:
        raise InvalidInput(f"the {kind} says it is {width} x {height} pixels")
    return Header(kind, width, height)


def _segments(body: bytes) -> "list[tuple[int, int, int]]":
    """Marker, begin and end of the content of every segment of a JPEG up to its first scan."""
    found, at = list[tuple[int, int, int]](), 2
    while len(found) < 4096:
        while body[at : at + 2] == b"\xff\xff":  # any number of them may fill up
            at += 1
        if at + 4 > len(body) or body[at] != 0xFF:
            raise InvalidInput("the JPEG ends before its picture begins")
        marker, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        end = at + 2 + length
        if length < 2 or end > len(body):
            raise InvalidInput("the JPEG ends before its picture begins")
        found.append((marker, at + 4, end))
        if marker == _SCAN:
            return found
        at = end
    raise InvalidInput("the JPEG has thousands of segments before its picture")


def _jpeg(body: bytes) -> Essence:
    parts, orientation, frames = [body[:2]], 1, 0
    segments = _segments(body)
    for marker, start, end in segments:
        frames += marker in _SIZES
        if marker == _EXIF and body[start : start + 6] == b"Exif\0\0":
            orientation = _orientation(body[start + 6 : end])
        if marker in (_JFIF, _ADOBE) or not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            parts.append(body[start - 4 : end])
    if frames != 1:
        raise InvalidInput(f"expected a JPEG with one picture in it, got {frames}")
    rest = body[segments[-1][2] :]
    if rest.count(bytes((0xFF, _SCAN))) >= MOST_SCANS:  # no byte of a scan's own data follows 0xFF but 0
        raise InvalidInput(f"the JPEG has more than {MOST_SCANS} scans")
    parts.append(rest)
    return Essence(b"".join(parts), orientation)


def _png(body: bytes) -> Essence:
    parts, orientation, at = [body[:8]], 1, 8
    for _ in range(MOST_PARTS):
        end = at + 12 + int.from_bytes(body[at : at + 4], "big")
        if end > len(body):
            raise InvalidInput("the PNG is truncated: it ends inside of a chunk")
        kind = body[at + 4 : at + 8]
        if kind in _KEPT_CHUNKS:
            parts.append(body[at:end])
        elif kind == b"eXIf":
            orientation = _orientation(body[at + 8 : end - 4])
        if kind == b"IEND":
            return Essence(b"".join(parts), orientation)
        at = end
    raise InvalidInput(f"the PNG has more than {MOST_PARTS} chunks")


def _orientation(exif: bytes) -> int:
    """The orientation an EXIF block names; 1 where it names none or is no such block: a picture is worth more than
    its notes."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
        if tag == _ORIENTATION:
            return value if kind == 3 and 1 <= value <= 8 else 1
    return 1
