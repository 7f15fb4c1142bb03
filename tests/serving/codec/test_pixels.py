"""From a picture to numbers: every kind of picture, every way to fit it, and what TensorFlow makes of the same."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from contracts.preprocessing import from_json, resolve
from contracts.signature import Signature, TensorSpec
from serving.codec import picture
from serving.codec.pixels import Pixels
from serving.engine.base import Array
from tests.serving.pictures import claimed_png, encoded, exif, jpeg, photo, png


def read(body: bytes, shape: tuple[int | None, ...] = (None, 40, 60, 3), dtype: str = "float32", **said: Any) -> Array:
    """The picture as the input of a model that declares `said`."""
    model = Signature("s", (TensorSpec("image", dtype, shape),), (TensorSpec("y", "float32", (None, 2)),), True)
    declared = from_json({"channels": "RGB"} | said)
    return Pixels(resolve(declared, (model,))).read(picture.header(body), body)


def test_the_numbers_of_a_picture_of_the_right_size_are_its_own() -> None:
    pixels = photo()
    assert np.array_equal(read(png(pixels))[0], pixels)
    assert np.array_equal(read(png(pixels), channels="BGR")[0], pixels[:, :, ::-1])
    assert np.array_equal(read(png(pixels), (None, 3, 40, 60), layout="NCHW")[0], pixels.transpose(2, 0, 1))
    whole = read(png(pixels), dtype="uint8")
    assert whole.dtype == np.uint8
    assert np.array_equal(whole[0], pixels)
    decoded = np.asarray(Image.open(io.BytesIO(jpeg(pixels))))
    assert np.array_equal(read(jpeg(pixels))[0], decoded)


def test_numbers_follow_the_one_formula() -> None:
    pixels = photo()
    got = read(png(pixels), scale=1 / 255, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], channels="BGR")
    wanted = (pixels[:, :, ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(read(png(pixels), mean=127.5, std=127.5)[0], pixels / 127.5 - 1, rtol=1e-5, atol=1e-6)
    assert read(png(pixels), dtype="float16", std=255).dtype == np.float16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encode", [png, jpeg])
def test_pictures_are_turned_upright(encode: Any, orientation: int) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 250  # bright in the upper left corner
    upright[:20, 30:] = 120
    stored = {  # how a camera held like this stores what is upright
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    got = read(encode(np.ascontiguousarray(stored), exif=exif(orientation)))
    assert np.abs(got[0] - upright).max() < (1 if encode is png else 12)


def test_every_kind_of_picture_comes_in_the_declared_channels() -> None:
    gray = np.arange(2400, dtype=np.uint8).reshape(40, 60)
    three = np.repeat(gray[:, :, None], 3, axis=2)
    deep = np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27
    see_through = np.dstack([photo(), gray])
    palette = Image.fromarray(photo()).quantize(64)
    for body, wanted in {
        png(gray): three,
        jpeg(gray): np.repeat(np.asarray(Image.open(io.BytesIO(jpeg(gray))))[:, :, None], 3, axis=2),
        png(deep): np.repeat((deep >> 8)[:, :, None], 3, axis=2),
        png(see_through): photo(),
        encoded(Image.fromarray(np.dstack([gray, gray])), "PNG"): three,
        encoded(palette, "PNG"): np.asarray(palette.convert("RGB")),
        encoded(palette, "PNG", transparency=bytes(range(64))): np.asarray(palette.convert("RGB")),
        encoded(Image.fromarray(gray > 99), "PNG"): np.where(three > 99, 255, 0),
    }.items():
        assert np.array_equal(read(body)[0], wanted)
    one = (None, 40, 60, 1)
    light = np.asarray(Image.fromarray(photo()).convert("L"))
    assert np.array_equal(read(png(gray), one, channels="gray")[0, :, :, 0], gray)
    assert np.array_equal(read(png(photo()), one, channels="gray")[0, :, :, 0], light)
    assert np.array_equal(read(png(see_through), (None, 40, 60, 4), channels="RGBA")[0], see_through)
    inks = encoded(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read(inks)[0] - photo()).mean() < 4
    assert np.abs(read(inks, one, channels="gray")[0, :, :, 0] - light).mean() < 4


def test_crop_takes_the_middle_and_pad_leaves_a_margin() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    square = (None, 10, 10, 3)
    assert np.all(read(png(wide), square, fit="crop") == 200)
    thirds = read(png(wide), (None, 10, 3, 3), fit="stretch", resize="area")[0, 5, :, 0]
    assert thirds.tolist() == [0, 200, 0]
    padded = read(png(wide), square, fit="pad", pad=7, resize="nearest")[0, :, 5, 0]
    assert padded.tolist() == [7] * 3 + [200] * 3 + [7] * 4
    normalised = read(png(wide), square, fit="pad", pad=100, resize="nearest", mean=100, std=50)
    assert normalised[0, 0, 0, 0] == 0
    line = np.full((1, 900, 3), 9, np.uint8)  # nothing of it would be left if proportions were everything
    assert read(png(line), square, fit="pad").max().round(3) == 9
    assert read(png(line), square, fit="crop").max().round(3) == 9


def test_a_picture_that_does_not_decode_is_the_callers_mistake() -> None:
    body = jpeg(photo(400, 400))
    damaged = png(photo())[:50] + b"\0" * 40 + png(photo())[90:]
    for broken in (body[: len(body) // 2], body[:700], damaged, claimed_png(60, 40)):
        with pytest.raises(InvalidInput, match=r"does not decode|ends before"):
            read(broken)


@pytest.mark.tensorflow
@pytest.mark.parametrize("source", [(40, 60), (333, 211), (20, 17)])
def test_pictures_become_what_tensorflow_makes_of_them(source: tuple[int, int]) -> None:
    import tensorflow as tf  # noqa: PLC0415 - only this test needs it

    pixels = photo(*source)
    shape = (None, 40, 60, 3)
    for method in ("nearest", "bilinear", "bicubic"):
        wanted = tf.image.resize(pixels, (40, 60), method).numpy()
        np.testing.assert_allclose(read(png(pixels), shape, resize=method)[0], wanted, atol=0.3)  # a table for bicubic
        close = tf.image.resize(pixels, (40, 60), method, antialias=True).numpy()
        got = read(png(pixels), shape, resize=method, antialias=True)[0]
        assert np.abs(got - np.clip(close, 0, 255)).max() <= (0 if method == "nearest" else 1.6)
    cropped = tf.keras.preprocessing.image.smart_resize(pixels, (40, 60))
    np.testing.assert_allclose(read(png(pixels), shape, fit="crop")[0], cropped, atol=0.01)
    padded = tf.image.resize_with_pad(pixels, 40, 60).numpy()
    np.testing.assert_allclose(read(png(pixels), shape, fit="pad")[0], padded, atol=0.01)
    body = jpeg(pixels)
    decoded = tf.io.decode_jpeg(body, 3, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    ours = read(body, (None, *source, 3))[0]
    assert np.abs(ours - decoded).max() <= 2
