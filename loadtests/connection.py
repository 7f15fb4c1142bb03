"""One HTTP/1.1 client connection, as little of it as a load generator needs: one request at a time, every answer read
to its last byte. Knows neither schedules nor pools.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

HEAD_LIMIT = 64 * 1024  # bytes of an answer's head; more is not an answer of anything we measure


@dataclass(slots=True)
class Reply:
    """What came back: `status` 0 means nothing usable, and `failure` says why. `version` is x-teal-version."""

    status: int
    version: str = ""
    failure: str = ""
    reusable: bool = False
    body: bytes = b""


@dataclass(slots=True)
class Head:
    status: int
    version: str
    length: int | None  # None: chunked, or until the connection closes
    chunked: bool
    close: bool


class Connection(asyncio.Protocol):
    """Send one request with `ask`; `answered` is called with its Reply exactly once. After a Reply that is not
    `reusable` the connection is closed. `alive` holds it as long as its socket is open, which is longer than it is
    usable."""

    def __init__(self, alive: "set[Connection]", *, keep_body: bool = False) -> None:
        self._alive = alive
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keep_body = keep_body
        self._transport: asyncio.Transport | None = None
        self._answered: Callable[[Reply], None] | None = None
        self._buffer = bytearray()
        self._head: Head | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, answered: Callable[[Reply], None]) -> None:
        assert self._answered is None, "one request at a time"
        if self._transport is None or self._transport.is_closing():
            answered(Reply(0, failure="connection closed before the request"))
            return
        self._answered = answered
        self._transport.write(request)

    def give_up(self, why: str) -> None:
        """Answer with a failure and close, sending nothing more; for a request that took too long."""
        if self._transport is not None:
            self._transport.abort()
        self._finish(Reply(0, failure=why))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def end(self) -> "asyncio.Future[None]":
        """Close at once, dropping what is not sent yet. The future is done when the socket is released."""
        if self._transport is not None:
            self._transport.abort()
        return self._gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._alive.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._alive.discard(self)
        if not self._gone.done():
            self._gone.set_result(None)
        head = self._head
        if head is not None and head.length is None and not head.chunked and error is None:
            self._finish(Reply(head.status, head.version, body=bytes(self._buffer) if self._keep_body else b""))
            return
        when = "before" if head is None and not self._buffer else "within"
        what = "connection closed" if error is None else type(error).__name__
        self._finish(Reply(0, failure=f"{what} {when} the answer"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answered is None:
            self.close()  # an answer to nothing: whoever is there does not speak HTTP
            return
        try:
            if self._head is None and not self._read_head():
                return
            self._read_body()
        except ValueError as error:
            self._finish(Reply(0, failure=f"not HTTP: {error}"))

    def _read_head(self) -> bool:
        """Take the head off the buffer; False when it is not complete. Interim answers (1xx) are skipped."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    raise ValueError("no end of headers")
                return False
            head = parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if head.status >= 200:
                self._head = head
                return True

    def _read_body(self) -> None:
        head = self._head
        assert head is not None
        if head.chunked:
            end, body = parse_chunks(self._buffer)
        elif head.length is None:
            return  # until the connection closes
        else:
            end = head.length if len(self._buffer) >= head.length else None
            body = bytes(self._buffer[:end]) if self._keep_body and end is not None else b""
        if end is not None:
            clean = len(self._buffer) == end
            self._finish(Reply(head.status, head.version, reusable=clean and not head.close, body=body))

    def _finish(self, reply: Reply) -> None:
        answered, self._answered = self._answered, None
        self._head = None
        self._buffer.clear()
        if not reply.reusable:
            self.close()
        if answered is not None:
            answered(reply)


def parse_head(raw: bytes) -> Head:
    """Status and the headers that matter. Raises ValueError when this is no answer."""
    lines = raw.split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1."):
        raise ValueError(f"expected a status line, got {lines[0][:40]!r}")
    head = Head(int(lines[0][9:12]), "", None, chunked=False, close=lines[0].startswith(b"HTTP/1.0"))
    if head.status in (204, 304) or head.status < 200:
        head.length = 0
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            head.length = int(value)
        elif name == b"transfer-encoding":
            head.chunked = value.strip().lower() == b"chunked"
        elif name == b"connection":
            head.close = value.strip().lower() == b"close"
        elif name == b"x-teal-version":
            head.version = value.strip().decode("latin-1")
    return head


def parse_chunks(buffer: bytearray) -> tuple[int | None, bytes]:
    """Where a chunked body ends in `buffer`, and the body; None while it is not complete. Answers here are small, so
    reading it from the start each time costs nothing."""
    at, parts = 0, []
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None, b""
        size = int(bytes(buffer[at:end]).partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            break
        parts.append(bytes(buffer[at : at + size]))
        at += size + 2
        if at > len(buffer):
            return None, b""
    while True:  # trailers, and the empty line after them
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None, b""
        if end == at:
            return at + 2, b"".join(parts)
        at = end + 2
