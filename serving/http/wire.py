"""The short way of a prediction over HTTP/1.1: from the parsed request to bytes on the socket, without a task between.

uvicorn's protocol stays in charge of the connection, and every request that is not an ordinary small prediction takes
its ASGI way. Measured on two cores: ASGI's scope, task and events cost more than decoding, computing and encoding an
image of 64 pixels. What a prediction is, and when it may be computed at once, is app.py's business.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.http.answers import CLOSE, Answer, Header
from serving.http.app import App
from serving.http.incoming import was_tried_before
from serving.http.routes import Page
from serving.http.rpc import speaks_grpc

_MOST_DIGITS = 5  # of a Content-Length on the short way: bodies below 100 kB come in few pieces and decode at once
_MOST_CHUNKED = 10**_MOST_DIGITS - 1  # the same for a gRPC message of unknown length
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class PredictionProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol for an App.

    A request is on the short way while `_page` is set: from its headers to its answer, which leaves before the parser
    goes on. Nothing else is under way on the connection meanwhile, so answers keep the order of requests.
    """

    app: App

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._page: Page | None = None
        self._head: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._started = 0.0
        self._last_used = 0.0
        self._shutting_down = False

    # The parser's callbacks, in the order of a request.

    def on_message_begin(self) -> None:
        """As uvicorn's without the scope, which only the ASGI way needs."""
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        page = self.app.hot.get(self.url)
        started = self.app.now()
        if page is None or not self.app.worth_a_try(started) or not self._fits_short_way():
            self._take_asgi_way()
            return
        self._page, self._body, self._started = page, b"", started

    def on_body(self, body: bytes) -> None:
        if self._page is None:
            super().on_body(body)
        elif not self._body:
            self._body = body
        else:
            if type(self._body) is not bytearray:  # many small chunks must not be copied again and again
                self._body = bytearray(self._body)
            self._body += body
            if len(self._body) > _MOST_CHUNKED:
                self._page = None
                self._take_asgi_way()
                super().on_body(bytes(self._body))

    def on_message_complete(self) -> None:
        page, self._page = self._page, None
        if page is None:
            super().on_message_complete()
            return
        body = bytes(self._body)
        answer = self.app.predict_at_once(page, self._head, body, self._started)
        if answer is not None:
            self._write(answer)
            return
        # It has to wait for company or for its turn, which is what tasks are for.
        self._take_asgi_way()
        super().on_body(body)
        super().on_message_complete()

    def _fits_short_way(self) -> bool:
        """Whether this is a POST with a small, plain body on a connection that is otherwise idle and stays open. (What
        should upgrade or is HTTP/1.0 and stays open says so in a connection header.) Of gRPC, whose messages have no
        length in HTTP/2, nobody knows yet how long the body is: on_body leaves the short way when it is not small."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        parser = self.parser
        if self.flow.write_paused or not parser.should_keep_alive() or parser.get_method() != b"POST":
            return False
        head = self._head = dict(self.headers)
        length = head.get(b"content-length")
        return (
            (len(length) <= _MOST_DIGITS if length is not None else speaks_grpc(head))
            and b"content-encoding" not in head
            and b"connection" not in head
            and b"expect" not in head
            and not was_tried_before(head)
        )

    def _take_asgi_way(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        if self._shutting_down:  # said while the body was arriving; uvicorn asked nobody then
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, _WithTrailers(cycle, app))

    def _write(self, answer: Answer) -> None:
        whole = None if self._shutting_down else self.app.plain(self._head, answer)
        if whole is not None:
            self.transport.write(whole)
            self._arm_idle_timer()
            return
        headers = self.app.headers_of(self._head, answer)
        close = self._shutting_down or CLOSE in headers
        if close and CLOSE not in headers:
            headers.append(CLOSE)
        parts = [_STATUS_LINES[answer.status]]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        parts += (_chunk(answer.body), _last_chunk(answer.trailers)) if answer.trailers else (answer.body,)
        self.transport.write(b"".join(parts))
        if close:
            self.transport.close()
        else:
            self._arm_idle_timer()

    # Idle connections. uvicorn sets and cancels a timer for each request; here one timer looks when the connection
    # was last used and, if that was too recently, sleeps for the rest.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._started = self.app.now()
        self._arm_idle_timer()

    def _arm_idle_timer(self) -> None:
        self._last_used = self._started
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        since = self._last_used if self._page is None else self._started  # a body that stopped arriving is idle too
        idle = 0.0 if busy else self.app.now() - since
        if idle >= self.timeout_keep_alive:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive - idle, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        """Called for each piece of data: the timer looks for itself whether the connection is in use."""

    def on_response_complete(self) -> None:
        self._cancel_idle_timer()  # uvicorn sets another one and would lose this one
        super().on_response_complete()
        self._last_used = self.app.now()

    def _cancel_idle_timer(self) -> None:
        super()._unset_keepalive_if_required()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._page is not None:
            self._page = None
            self.app.departed(self._started)
        super().connection_lost(exc)
        self._cancel_idle_timer()

    def shutdown(self) -> None:
        """A request whose body is still arriving is answered before the connection closes."""
        if self._page is not None:
            self._shutting_down = True
        else:
            super().shutdown()


class _WithTrailers:
    """An application whose answer may end in trailers: ASGI's extension `http.response.trailers`, which uvicorn lacks.

    The body is kept from ending until they have come; then the cycle is completed as uvicorn completes its own.
    """

    def __init__(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._cycle = cycle
        self._app = app
        self._promised = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        del send  # the cycle's own
        await self._app(scope, receive, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.trailers":
            self._finish(message["headers"])
            return
        if message["type"] == "http.response.start":
            self._promised = message.get("trailers", False)
        elif self._promised:
            message = {**message, "more_body": True}
        await self._cycle.send(message)

    def _finish(self, trailers: tuple[Header, ...]) -> None:
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.transport.write(_last_chunk(trailers))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _last_chunk(trailers: tuple[Header, ...]) -> bytes:
    return b"0\r\n" + b"".join([name + b": " + value + b"\r\n" for name, value in trailers]) + b"\r\n"
