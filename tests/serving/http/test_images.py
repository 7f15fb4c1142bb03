"""Pictures as people send them: JPEG and PNG straight to :predict, and everything that is neither."""

import asyncio
import gzip
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.errors import DeadlineExceeded, Overloaded
from contracts.limits import LIMITS
from contracts.preprocessing import Preprocessing, resolve
from contracts.signature import Signature, TensorSpec
from serving.codec.picture import Header
from serving.engine.base import Array
from serving.http.pictures import Pictures
from tests.serving.engines import FormulaEngine
from tests.serving.http.asgi import Answer, Client, run
from tests.serving.pictures import before_pixels, chunk, claimed_png, jpeg, photo, png

PREDICT = "/v1/models/half_plus_two:predict"
SEES = Signature(
    "serving_default",
    (TensorSpec("image", "float32", (None, 4, 6, 3)),),
    (TensorSpec("means", "float32", (None, 3)),),
    batched=True,
)
DECLARED = Preprocessing(channels="RGB", resize="area")


def means() -> FormulaEngine:
    """Answers the mean of each channel."""
    return FormulaEngine(lambda inputs: {"means": inputs["image"].mean((1, 2))})


def ask(body: bytes, kind: str = "image/png", *, path: str = PREDICT, head: Any = (), **how: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.ask("POST", path, body, {"content-type": kind, **dict(head)})

    how = {"preprocessing": DECLARED, "signatures": (SEES,), "engine": means()} | how
    answer: Answer = run(story, **how)
    return answer


@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpeg", "Image/PNG; charset=binary", "image/jpeg;q=1"]
)  # fmt: skip
def test_a_picture_gets_one_prediction_in_row_form(kind: str) -> None:
    pixels = photo(40, 60)
    answer = ask(png(pixels), kind)  # the bytes say what it is
    assert answer.status == 200
    (prediction,) = answer.json["predictions"]
    np.testing.assert_allclose(prediction, pixels.mean((0, 1)), atol=0.6)
    np.testing.assert_allclose(ask(jpeg(pixels), kind).json["predictions"], [prediction], atol=1.5)


def test_a_picture_is_an_input_like_any_other() -> None:
    by_hand = photo(4, 6)
    as_json = ask(b'{"instances":%s}' % str([by_hand.tolist()]).encode(), "application/json")
    assert ask(png(by_hand)).json == as_json.json
    assert ask(gzip.compress(png(by_hand)), head={"content-encoding": "gzip"}).json == as_json.json
    version = "/v1/models/half_plus_two/versions/123:predict"
    assert ask(png(by_hand), path=version).json == as_json.json


def test_a_model_that_does_not_say_how_is_not_guessed_at() -> None:
    answer = ask(png(photo()), preprocessing=None)
    assert answer.status == 415
    assert "--preprocessing" in answer.json["error"]
    assert "channels" in answer.json["error"]


@pytest.mark.parametrize("kind", ["image/gif", "image/svg+xml", "image/webp", "image/", "image/\xff"])
def test_other_kinds_of_pictures_are_told_which_are_taken(kind: str) -> None:
    answer = ask(png(photo()), kind)
    assert answer.status == 415
    assert "image/jpeg and image/png" in answer.json["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (claimed_png(60_000, 60_000), "60000 x 60000 pixels, at most 40,000,000"),
        (claimed_png(2**31 - 1, 2**31 - 1), "at most 40,000,000"),
        (jpeg(photo(400, 400))[:9000], "does not decode"),
        (png(photo(400, 400))[:9000], "truncated"),
        (b"GIF89a" + b"\0" * 1000, "a GIF"),
        (b"<svg/>", "an SVG"),
        (b'{"instances": [1]}', "got something else"),
        (b"", "got no bytes"),
        (before_pixels(png(photo()), chunk(b"tEXt") * 70_000), "chunks"),
    ],
)
def test_a_picture_that_cannot_be_taken_gets_400_and_the_reason(body: bytes, said: str) -> None:
    answer = ask(body)
    assert answer.status == 400
    assert said in answer.json["error"]


def test_a_picture_of_too_many_bytes_gets_413() -> None:
    small = replace(LIMITS, image_body=1000)
    assert ask(b"\xff\xd8\xff" + b"0" * 2000, limits=small).status == 413
    bomb = gzip.compress(b"\0" * 10_000_000)
    assert ask(bomb, head={"content-encoding": "gzip"}, limits=replace(LIMITS, image_body=100_000)).status == 413


def test_only_predict_takes_pictures() -> None:
    for path in ("/v1/models/half_plus_two:classify", "/v2/models/half_plus_two/infer"):
        assert ask(png(photo()), path=path).status == 400


def test_a_model_without_rows_answers_a_picture_too() -> None:
    scene = Signature(
        "serving_default",
        (TensorSpec("image", "float32", (1, 4, 6, 3)),),
        (TensorSpec("brightness", "float32", ()),),
        batched=False,
    )
    engine = FormulaEngine(lambda inputs: {"brightness": inputs["image"].mean()})
    answer = ask(png(np.full((4, 6, 3), 7, np.uint8)), signatures=(scene,), engine=engine)
    assert answer.json == {"outputs": 7.0}


class Slow:
    """A decoder that waits for the test."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.begun, self.may, self.inside, self.most = loop, asyncio.Event(), asyncio.Event(), 0, 0

    def read(self, header: Header, body: bytes) -> Array:
        del body

        async def hold() -> None:
            self.inside += header.width * header.height
            self.most = max(self.most, self.inside)
            self.begun.set()
            await self.may.wait()
            self.inside -= header.width * header.height

        asyncio.run_coroutine_threadsafe(hold(), self.loop).result(30)
        return np.zeros((1, 4, 6, 3), np.float32)


def room(limit: int, waiting: int = 10_000) -> tuple[Pictures, Slow]:
    slow = Slow(asyncio.get_running_loop())
    limits = replace(LIMITS, image_pixels=limit, queue_bytes=waiting)
    return Pictures(resolve(DECLARED, (SEES,)), slow, limits), slow


def test_no_more_pixels_are_decoded_at_a_time_than_one_picture_may_have() -> None:
    async def story() -> None:
        pictures, slow = room(1_000_000)
        asked = [asyncio.create_task(pictures.read(claimed_png(1000, 1000), 30)) for _ in range(4)]
        await slow.begun.wait()
        slow.may.set()
        assert [len(array) for array in await asyncio.gather(*asked)] == [1] * 4
        assert slow.most == 1_000_000

    asyncio.run(story())


def test_who_waits_too_long_or_finds_no_place_to_wait_is_told_so() -> None:
    async def story() -> None:
        body = claimed_png(1000, 1000)
        pictures, slow = room(1_000_000, waiting=2 * len(body))
        first = asyncio.create_task(pictures.read(body, 30))
        await slow.begun.wait()
        waiting = [asyncio.create_task(pictures.read(body, 0.02)) for _ in range(3)]
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineExceeded, DeadlineExceeded, Overloaded]
        slow.may.set()
        assert len(await first) == 1
        assert len(await pictures.read(body, 30)) == 1  # those who gave up hold no room

    asyncio.run(story())


def test_a_caller_who_leaves_frees_the_room_when_the_decoder_is_done() -> None:
    async def story() -> None:
        pictures, slow = room(1_000_000)
        left = asyncio.create_task(pictures.read(claimed_png(1000, 1000), 30))
        await slow.begun.wait()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        next_one = asyncio.create_task(pictures.read(claimed_png(1000, 1000), 30))
        slow.may.set()
        assert len(await next_one) == 1
        assert slow.most == 1_000_000

    asyncio.run(story())


def test_a_worker_without_pictures_never_loads_the_decoder() -> None:
    code = "import sys, serving.worker; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
