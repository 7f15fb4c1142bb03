"""What is known of a picture before anything is decoded, and what reaches the decoder."""

import zlib

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from serving.codec.picture import Header, essence, header
from tests.serving.pictures import before_pixels, chunk, claimed_png, encoded, exif, jpeg, photo, png


def test_the_size_is_known_from_the_beginning_of_a_picture() -> None:
    assert header(png(photo(40, 60))[:33]) == Header("PNG", 60, 40)
    assert header(jpeg(photo(40, 60))[:700]) == Header("JPEG", 60, 40)
    assert header(jpeg(photo(40, 60), progressive=True)) == Header("JPEG", 60, 40)
    assert header(claimed_png(60_000, 60_000)) == Header("PNG", 60_000, 60_000)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no bytes"),
        (encoded(Image.fromarray(photo()), "GIF"), "a GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"RIFF....WEBP", "a WebP"),
        (b'{"instances": [1]}', "something else"),
        (b"\xff\xd8\xff", "ends before its picture begins"),
        (b"\xff\xd8\xff\xe0\x00\x01", "ends before its picture begins"),
        (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000, "thousands of segments"),
        (b"\xff\xd8" + b"\xff\xda\x00\x02", "no picture in it"),
        (b"\x89PNG\r\n\x1a\n", "does not begin with its header"),
        (claimed_png(0, 5), "0 x 5 pixels"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_told_what_it_is(body: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        header(body)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_from_either_kind(orientation: int) -> None:
    block = exif(orientation)
    assert essence("JPEG", jpeg(photo(), exif=block)).orientation == orientation
    assert essence("PNG", png(photo(), exif=block)).orientation == orientation


def test_broken_notes_leave_a_picture_upright() -> None:
    for block in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\1" * 7, b"Exif" * 20):
        body = before_pixels(png(photo()), chunk(b"eXIf", block))
        assert essence("PNG", body).orientation == 1


def test_texts_profiles_previews_and_further_frames_never_reach_the_decoder() -> None:
    bomb = zlib.compress(b"a" * 50_000_000)
    plain = png(photo())
    loud = before_pixels(
        plain,
        chunk(b"zTXt", b"k\0\0" + bomb),
        chunk(b"iTXt", b"k\0\1\0\0\0" + bomb),
        chunk(b"iCCP", b"k\0\0" + bomb),
        chunk(b"acTL", b"\0\1\x86\xa0\0\0\0\0"),
        chunk(b"prVt", b"?" * 9),
    )
    assert essence("PNG", loud).data == plain

    quiet, noisy = jpeg(photo()), jpeg(photo(), icc_profile=b"i" * 300_000, comment=b"c" * 60_000, exif=exif(3))
    assert essence("JPEG", noisy).data == quiet


def test_a_picture_of_too_many_parts_is_refused() -> None:
    many = before_pixels(png(photo()), chunk(b"tEXt") * 70_000)
    with pytest.raises(InvalidInput, match="more than 65536 chunks"):
        essence("PNG", many)

    progressive = jpeg(photo(), progressive=True)
    first = progressive.index(b"\xff\xda")
    scan = progressive[first : progressive.index(b"\xff\xc4", first)]
    with pytest.raises(InvalidInput, match="more than 64 scans"):
        essence("JPEG", progressive[:-2] + scan * 70 + b"\xff\xd9")

    frame = progressive.index(b"\xff\xc2")
    twice = progressive[:frame] + progressive[frame : frame + 19] + progressive[frame:]
    with pytest.raises(InvalidInput, match="one picture in it, got 2"):
        essence("JPEG", twice)


def test_a_truncated_png_is_refused() -> None:
    body = png(np.asarray(photo()))
    for length in (34, 40, len(body) // 2, len(body) - 1):
        with pytest.raises(InvalidInput, match="truncated"):
            essence("PNG", body[:length])
