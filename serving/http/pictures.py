"""Pictures on their way to arrays: how much is decoded at the same time, where, and who waits.

Decoding a photograph takes 100 ms, so it happens in threads; Pillow releases the interpreter meanwhile. What is done
with a picture is serving/codec/pixels.py, which is imported only for a model that declares it.
"""

import asyncio
import contextlib
import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from contracts.errors import DeadlineExceeded, InvalidInput, Overloaded
from contracts.limits import Limits
from contracts.machine import cores
from contracts.package import Manifest
from contracts.preprocessing import Target, resolve
from serving.codec import picture
from serving.engine.base import Array

_SMALL_PIXELS = 256 * 256  # decoded on the event loop: about a millisecond, not much more than handing it to a thread
_SMALL_BYTES = 256 * 1024


class Reader(Protocol):
    """serving.codec.pixels.Pixels."""

    def read(self, header: picture.Header, body: bytes) -> Array: ...


class Pictures:
    """Turns pictures into the input of one model. At most `limits.image_pixels` are being decoded at any time, which
    take about 15 bytes of memory each; at most `limits.queue_bytes` of bodies wait for their turn."""

    def __init__(self, target: Target, reader: Reader, limits: Limits) -> None:
        self.target = target
        self._reader = reader
        self._limits = limits
        self._threads = ThreadPoolExecutor(cores(), thread_name_prefix="pictures")
        self._turn = asyncio.Lock()  # fair: who came first goes first, also when he needs more room than the next
        self._freed = asyncio.Event()
        self._decoding = 0  # pixels
        self._waiting = 0  # bytes

    async def read(self, body: bytes, seconds: float) -> Array:
        """The tensor of the picture in `body`, rows included. Raises InvalidInput, Overloaded, and DeadlineExceeded
        after `seconds`."""
        header = picture.header(body)
        pixels = header.width * header.height
        if pixels > self._limits.image_pixels:
            raise InvalidInput(
                f"the picture has {header.width} x {header.height} pixels, at most {self._limits.image_pixels:,} are "
                "allowed: make it smaller"
            )
        if pixels <= _SMALL_PIXELS and len(body) <= _SMALL_BYTES:
            return self._reader.read(header, body)
        try:
            async with asyncio.timeout(seconds):
                await self._wait_for_room(pixels, len(body))
                work = self._threads.submit(self._reader.read, header, body)
                work.add_done_callback(self._give_back_later(pixels))
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise DeadlineExceeded("the request's time was over before its picture was decoded") from None

    async def _wait_for_room(self, pixels: int, size: int) -> None:
        if self._waiting + size > self._limits.queue_bytes:
            raise Overloaded("too many pictures wait to be decoded: try again in a second")
        self._waiting += size
        try:
            async with self._turn:
                while self._decoding and self._decoding + pixels > self._limits.image_pixels:
                    self._freed.clear()
                    await self._freed.wait()
                self._decoding += pixels
        finally:
            self._waiting -= size

    def _give_back_later(self, pixels: int) -> Callable[["Future[Array]"], None]:
        """The room is free when the thread is done, which may be long after its caller has left."""
        loop = asyncio.get_running_loop()

        def free() -> None:
            self._decoding -= pixels
            self._freed.set()

        def done(_: "Future[Array]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody needs the room any more
                loop.call_soon_threadsafe(free)

        return done


def open_pictures(manifest: Manifest, limits: Limits) -> Pictures | None:
    """None for a model that declares nothing. Raises InvalidInput for a declaration that does not fit. Call it where
    the event loop does not wait: it imports Pillow."""
    if manifest.preprocessing is None:
        return None
    target = resolve(manifest.preprocessing, manifest.signatures)
    # By name and late: no other worker pays for Pillow's import and memory.
    reader: Reader = importlib.import_module("serving.codec.pixels").Pixels(target)
    return Pictures(target, reader, limits)
