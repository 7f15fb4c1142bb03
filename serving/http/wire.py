"""The short way of a prediction over HTTP/1.1: from the parsed request to bytes on the socket, without a task between.

uvicorn's protocol stays in charge of the connection, and every request that is not an ordinary small prediction takes
its ASGI way. Measured on two cores: ASGI's scope, task and events cost more than decoding, computing and encoding an
image of 64 pixels. What a prediction is, and when it may be computed at once, is app.py's business.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.answers import CLOSE, Answer
from serving.http.app import App
from serving.http.incoming import was_tried_before
from serving.http.routes import Page

_MOST_DIGITS = 5  # of a Content-Length on the short way: bodies below 100 kB come in few pieces and decode at once
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
        self._body = b""
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
        if page is None or started < self.app.short_way_from or not self._fits_short_way():
            self._take_asgi_way()
            return
        self._page, self._body, self._started = page, b"", started

    def on_body(self, body: bytes) -> None:
        if self._page is None:
            super().on_body(body)
        else:
            self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        page, self._page = self._page, None
        if page is None:
            super().on_message_complete()
            return
        answer = self.app.predict_at_once(page, self._head, self._body, self._started)
        if answer is not None:
            self._write(answer)
            return
        # It has to wait for company or for its turn, which is what tasks are for.
        self._take_asgi_way()
        super().on_body(self._body)
        super().on_message_complete()

    def _fits_short_way(self) -> bool:
        """Whether this is a POST with a small, plain body of known length on a connection that is otherwise idle and
        stays open. (What should upgrade or is HTTP/1.0 and stays open says so in a connection header.)"""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        parser = self.parser
        if self.flow.write_paused or not parser.should_keep_alive() or parser.get_method() != b"POST":
            return False
        head = self._head = dict(self.headers)
        length = head.get(b"content-length")
        return (
            length is not None
            and len(length) <= _MOST_DIGITS
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

    def _write(self, answer: Answer) -> None:
        head = None if self._shutting_down else self.app.plain_head(self._head, answer)
        if head is not None:
            self.transport.write(head + answer.body)
            self._arm_idle_timer()
            return
        headers = self.app.headers_of(self._head, answer)
        close = self._shutting_down or CLOSE in headers
        if close and CLOSE not in headers:
            headers.append(CLOSE)
        parts = [_STATUS_LINES[answer.status]]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", answer.body)
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
        self._page = None
        super().connection_lost(exc)
        self._cancel_idle_timer()

    def shutdown(self) -> None:
        """A request whose body is still arriving is answered before the connection closes."""
        if self._page is not None:
            self._shutting_down = True
        else:
            super().shutdown()
