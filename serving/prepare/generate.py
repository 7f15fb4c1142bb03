"""Makes sample inputs up from a signature alone, when nobody gave any.

Decides values and sizes, always the same ones for the same seed; whether the model accepts them is tried elsewhere.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from contracts.signature import Signature, TensorSpec
from serving.engine.base import NUMPY_DTYPES, Array

SEED = 20_240_607
SIZES = (8, 16, 32, 64, 128, 224, 1)  # for dimensions the signature leaves open, besides the rows
STYLES = ("usual", "small", "zero", "picture")

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "42", "Zürich")


@dataclass(frozen=True)
class Recipe:
    """`size` fills open dimensions, `style` chooses ranges: usual (floats in [0, 1) and normal, integers 0…9, words),
    small (integers 0 and 1, numbers as text), zero (zeros and empty strings: an empty tf.Example, too),
    picture (strings are a small PNG)."""

    size: int
    style: str


def recipes(signature: Signature) -> Iterator[Recipe]:
    """What to try for a signature, most ordinary first, without combinations that make no difference."""
    open_sizes = any(d is None for spec in signature.inputs for d in (spec.shape or ())[1:])
    strings = any(spec.dtype == "string" for spec in signature.inputs)
    for size in SIZES if open_sizes else SIZES[:1]:
        for style in STYLES if strings else STYLES[:-1]:
            yield Recipe(size, style)


def generate(signature: Signature, rows: int, recipe: Recipe) -> dict[str, Array]:
    """Inputs of a signature. KeyError for a dtype numpy cannot hold."""
    random = np.random.default_rng(SEED)
    return {
        spec.name: _values(spec, shape_of(spec, rows, recipe.size), recipe.style, random) for spec in signature.inputs
    }


def shape_of(spec: TensorSpec, rows: int, size: int) -> tuple[int, ...]:
    if spec.shape is None:
        return (rows,)
    return tuple((rows if axis == 0 else size) if d is None else d for axis, d in enumerate(spec.shape))


def _values(spec: TensorSpec, shape: tuple[int, ...], style: str, random: np.random.Generator) -> Array:
    dtype = NUMPY_DTYPES[spec.dtype]
    if spec.dtype == "string":
        return _strings(shape, style, random)
    if style == "zero":
        return np.zeros(shape, dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        usual = 256 if spec.dtype == "uint8" else 10  # eight bits without sign are mostly pixels
        return random.integers(0, 2 if style == "small" else usual, shape).astype(dtype)
    values = random.random(shape)
    if style == "usual" and shape:
        values[1::2] = random.standard_normal(values[1::2].shape)  # every second row, when rows come first
    if dtype.kind == "c":
        return (values + 1j * random.random(shape)).astype(dtype)
    return values.astype(dtype)


def _strings(shape: tuple[int, ...], style: str, random: np.random.Generator) -> Array:
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = _string(style, random)
    return array


def _string(style: str, random: np.random.Generator) -> bytes:
    if style == "zero":
        return b""
    if style == "small":
        return str(random.integers(0, 2)).encode()
    if style == "picture":
        return _png(random)
    return " ".join(random.choice(_WORDS, int(random.integers(1, 7)))).encode()


def _png(random: np.random.Generator) -> bytes:
    """A small RGB picture."""
    side = 8
    lines = b"".join(b"\0" + random.integers(0, 256, side * 3, dtype=np.uint8).tobytes() for _ in range(side))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
