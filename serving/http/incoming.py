"""What arrives: deadline, request id and body, each checked against its limit before it costs anything."""

import asyncio
import itertools
import math
import os
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from contracts.errors import DeadlineExceeded, InvalidInput, TooLarge, UnsupportedMedia
from contracts.limits import Limits
from contracts.names import HEADER_ATTEMPT, HEADER_REQUEST_ID, HEADER_TIMEOUT_MS
from serving.memory import LONGEST_ID

Receive = Callable[[], Awaitable[dict[str, Any]]]
Head = Mapping[bytes, bytes]

NPY = b"application/x-npy"

_REQUEST_ID = HEADER_REQUEST_ID.encode()
_ATTEMPT = HEADER_ATTEMPT.encode()
# The caller's own word and Envoy's: what is left of the route's time.
_MILLISECONDS = (HEADER_TIMEOUT_MS.encode(), b"x-envoy-expected-rq-timeout-ms")
_GRPC_TIMEOUT = b"grpc-timeout"
_DURATION = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_QUALITY = re.compile(rb"[01](\.\d{0,3})?")
_WINDOWS = {b"gzip": 31, b"deflate": 15}  # zlib's word for the wrapping of either; HTTP's deflate is zlib's format
_unique = itertools.count()
_prefix = os.urandom(8).hex()


class ClientGone(Exception):
    """The caller left; there is nobody to answer."""


def request_id(head: Head) -> bytes:
    """The caller's request id, or one of ours when there is none or it is unreasonably long."""
    given = head.get(_REQUEST_ID)
    if given and len(given) <= LONGEST_ID:
        return given
    return f"{_prefix}-{next(_unique):x}".encode()


def seconds_allowed(head: Head, limits: Limits) -> float:
    """How long the caller waits, or Envoy for it: the least of what the headers say and of the limit. Raises
    InvalidInput for what is no such time and DeadlineExceeded when nothing is left."""
    seconds = limits.request_seconds
    for name in _MILLISECONDS:
        if (given := head.get(name)) is not None:
            seconds = min(seconds, _read_milliseconds(name, given))
    if (given := head.get(_GRPC_TIMEOUT)) is not None:
        seconds = min(seconds, _read_grpc_timeout(given))
    if seconds <= 0:
        raise DeadlineExceeded("the request's time was over when it arrived")
    return seconds


@lru_cache(maxsize=256)  # Envoy says the same with almost every request
def _read_milliseconds(name: bytes, given: bytes) -> float:
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = math.nan
    if not math.isfinite(milliseconds) or milliseconds < 0 or b"_" in given:
        raise InvalidInput(f"{name.decode()} is {_shown(given)}: expected a number of milliseconds, 0 or more")
    return milliseconds / 1000.0


def _read_grpc_timeout(given: bytes) -> float:
    if (match := _DURATION.fullmatch(given)) is None:
        raise InvalidInput(
            f"grpc-timeout is {_shown(given)}: expected 1 to 8 digits and one of the units H, M, S, m, u, n"
        )
    return int(match[1]) * _UNITS[match[2]]


def _shown(given: bytes) -> str:
    return repr(given[:40].decode("ascii", "backslashreplace"))


def was_tried_before(head: Head) -> bool:
    """Whether Envoy says that another worker had this request and did not answer. A caller cannot say so: Envoy writes
    the header anew (`include_request_attempt_count`)."""
    return head.get(_ATTEMPT, b"1") != b"1"


def sends_npy(head: Head) -> bool:
    """Whether the body is declared to be an array as numpy saves it."""
    return head.get(b"content-type", b"").split(b";")[0].strip().lower() == NPY


def sends_image(head: Head) -> str | None:
    """The kind of picture the body is declared to be, e.g. image/jpeg; None when it is no picture."""
    kind = head.get(b"content-type", b"").split(b";")[0].strip().lower()
    return kind.decode("ascii", "backslashreplace") if kind.startswith(b"image/") else None


def wants_npy(head: Head) -> bool:
    """Whether the caller asks for the answer as numpy saves arrays, and does not like JSON better."""
    liking = {NPY: 0.0, b"application/json": 0.0}
    for entry in head.get(b"accept", b"").split(b","):
        kind, *parameters = [part.strip().lower() for part in entry.split(b";")]
        quality = next((p[2:] for p in parameters if p.startswith(b"q=")), b"1")
        if kind in liking and _QUALITY.fullmatch(quality):
            liking[kind] = float(quality)
    return liking[NPY] > 0 and liking[NPY] >= liking[b"application/json"]


async def read_body(receive: Receive, head: Head, limit: int, seconds: float) -> bytes:
    """The whole body, decoded. Raises TooLarge before reading when the declared length is over `limit` bytes and as
    soon as the bytes are, UnsupportedMedia, InvalidInput, DeadlineExceeded after `seconds`, ClientGone."""
    encoding = head.get(b"content-encoding", b"identity").lower()
    if encoding != b"identity" and encoding not in _WINDOWS:
        raise UnsupportedMedia("Content-Encoding must be gzip, deflate or identity")
    if int(head.get(b"content-length", 0)) > limit:  # digits only: the HTTP parser has refused anything else
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message["body"]
    if message["more_body"]:
        try:
            async with asyncio.timeout(seconds):
                body = await _read_rest(receive, body, limit)
        except TimeoutError:
            raise DeadlineExceeded("the request's time was over before its body had arrived") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body if encoding == b"identity" else _inflate(body, encoding, limit)


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    body, more = bytearray(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message["body"]
        more = message["more_body"]
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=_WINDOWS[encoding])
    try:
        decoded = decoder.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidInput(f"the body is not {encoding.decode()}, as its Content-Encoding says") from None
    if len(decoded) > limit:
        raise _too_large(limit)
    if not decoder.eof:
        raise InvalidInput(f"the {encoding.decode()} body ends too early")
    if decoder.unused_data:
        raise InvalidInput(f"something follows the end of the {encoding.decode()} body: send it as one piece")
    return decoded


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes: send fewer rows at a time")
