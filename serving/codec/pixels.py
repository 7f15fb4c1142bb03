"""A JPEG or PNG → the tensor a package's declaration asks for. The only place that imports Pillow, and itself imported
only by a worker whose model declares such a thing.

In this order: decode, turn upright, bring to the declared channels, fit and resize, order of channels, numbers, layout.
Colour profiles are ignored: TensorFlow's own decoders ignore them too.
"""

import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from contracts.errors import InvalidInput, Unavailable
from contracts.preprocessing import Target
from serving.codec import picture
from serving.engine.base import NUMPY_DTYPES, Array

_MODES = {"RGB": "RGB", "BGR": "RGB", "gray": "L", "RGBA": "RGBA"}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Pixels:
    """Reads pictures for one input of one model. Threads may share it."""

    def __init__(self, target: Target) -> None:
        declared = target.declared
        self._target = target
        self._dtype = NUMPY_DTYPES[target.input.dtype]
        self._numbers = [
            np.array(numbers or [neutral], np.float64)
            for numbers, neutral in ((declared.scale, 1.0), (declared.mean, 0.0), (declared.std, 1.0))
        ]

    def read(self, header: picture.Header, body: bytes) -> Array:
        """The tensor of one picture, rows included. `header` is the one of `body`. Raises InvalidInput for a picture
        that does not decode, Unavailable where there is no memory for it."""
        try:
            image = self._in_channels(_decoded(header, body))
            return self._finished(self._resized(image))
        except MemoryError:
            raise Unavailable("there is no memory left for a picture of this size") from None

    def _in_channels(self, image: Image.Image) -> Image.Image:
        if image.mode == "I;16":  # Pillow's own way to 8 bits cuts off what is above 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # the palette's own colours, with how transparent each is beside them
        mode = _MODES[self._target.channels]
        return image if image.mode == mode else image.convert(mode)

    def _resized(self, image: Image.Image) -> Array:
        """[height, width, channels], as numbers from 0 to 255."""
        target, declared = self._target, self._target.declared
        frame = fit(declared.fit, image.width, image.height, target.width, target.height)
        if declared.resize == "area" or (declared.antialias and declared.resize != "nearest"):
            resized = np.asarray(image.resize((frame.width, frame.height), _FILTERS[declared.resize], frame.box))
            pixels = resized.reshape(frame.height, frame.width, -1).astype(np.float32)
        else:
            source = np.asarray(image.crop(frame.box) if frame.box != (0, 0, *image.size) else image)
            pixels = sample(source.reshape(*source.shape[:2], -1), frame.height, frame.width, declared.resize)
        if declared.fit != "pad":
            return pixels
        whole = np.full((target.height, target.width, pixels.shape[2]), declared.pad, np.float32)
        whole[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
        return whole

    def _finished(self, pixels: Array) -> Array:
        declared = self._target.declared
        if self._target.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        if self._dtype.kind == "u":
            pixels = np.clip(np.rint(pixels), 0, 255)  # bicubic overshoots at edges
        else:
            scale, mean, std = self._numbers
            pixels = (pixels * scale - mean) / std
        if declared.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[np.newaxis], self._dtype)


class Frame(NamedTuple):
    """Which part of a picture (left, top, right, bottom) becomes how many pixels, and where they stand in the input."""

    box: tuple[int, int, int, int]
    width: int
    height: int
    left: int = 0
    top: int = 0


def fit(how: str, width: int, height: int, to_width: int, to_height: int) -> Frame:
    """`crop` and `pad` round as keras' smart_resize and TensorFlow's resize_with_pad do."""
    whole = (0, 0, width, height)
    if how == "crop":
        crop_width = max(1, min(width, height * to_width // to_height))
        crop_height = max(1, min(height, width * to_height // to_width))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        return Frame((left, top, left + crop_width, top + crop_height), to_width, to_height)
    if how == "pad":
        ratio = max(width / to_width, height / to_height)
        new_width = max(1, min(to_width, math.floor(width / ratio)))
        new_height = max(1, min(to_height, math.floor(height / ratio)))
        return Frame(whole, new_width, new_height, (to_width - new_width) // 2, (to_height - new_height) // 2)
    return Frame(whole, to_width, to_height)


def sample(source: Array, height: int, width: int, how: str) -> Array:
    """Each new pixel from those of the source nearest to it, as tf.image.resize without antialias. [h, w, c] → float32
    [height, width, c]. Costs what the result costs, however large the source is."""
    rows, row_weights = _taps(source.shape[0], height, how)
    columns, column_weights = _taps(source.shape[1], width, how)
    result = np.zeros((height, width, source.shape[2]), np.float32)
    for row, row_weight in zip(rows, row_weights, strict=True):
        for column, weight in zip(columns, column_weights, strict=True):
            result += source[np.ix_(row, column)] * (row_weight[:, np.newaxis] * weight)[:, :, np.newaxis]
    return result


def _taps(length: int, wanted: int, how: str) -> tuple[Array, Array]:
    """For each of `wanted` new positions along an axis the old positions that count, and how much: [taps, wanted]."""
    centres = (np.arange(wanted) + 0.5) * (length / wanted)
    if how == "nearest":
        return np.minimum(centres.astype(np.intp), length - 1)[np.newaxis], np.ones((1, wanted), np.float32)
    first = np.floor(centres - 0.5)
    offsets = np.array([0, 1] if how == "bilinear" else [-1, 0, 1, 2])[:, np.newaxis]
    distances = np.abs(offsets - (centres - 0.5 - first))
    places = first + offsets
    if how == "bilinear":
        weights = 1 - distances
    else:
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
        weights = np.where(distances <= 1, near, far) * ((places >= 0) & (places < length))
        weights /= weights.sum(0)
    return np.clip(places, 0, length - 1).astype(np.intp), weights.astype(np.float32)


def _decoded(header: picture.Header, body: bytes) -> Image.Image:
    data, orientation = picture.essence(header.kind, body)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[header.kind])
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder makes of broken bytes, it is the picture that is broken
        raise InvalidInput(f"the {header.kind} does not decode: is it complete? ({type(error).__name__})") from None
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
