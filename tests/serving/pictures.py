"""Pictures for tests, also such as no camera makes."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from serving.engine.base import Array


def photo(height: int = 40, width: int = 60, seed: int = 0) -> Array:
    """Smooth colours with some detail: what JPEG is made for. uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 7), np.cos(y / 5), np.sin((x + y) / 11)], axis=-1) * 100 + 128
    return np.clip(waves + generator.normal(0, 4, waves.shape), 0, 255).astype(np.uint8)


def png(pixels: Array, **more: Any) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **more)


def jpeg(pixels: Array, **more: Any) -> bytes:
    return encoded(Image.fromarray(pixels), "JPEG", **{"quality": 95} | more)


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed_png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header says what it likes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", head), *chunks, chunk(b"IEND")])


def before_pixels(body: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return body[:33] + b"".join(chunks) + body[33:]
