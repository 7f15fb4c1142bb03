"""Workers for the router's tests: small honest HTTP/1.1 servers on Unix sockets that can be slow, dead or rude."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httptools

from contracts.worker import PATH_READY

# What a worker's HTTP status is when it answers a call with an error: 4 for the caller's fault, 5 for its own.
WHOSE_FAULT = {0: 200, 3: 400, 4: 504, 5: 400, 14: 503}


@dataclass
class Behaviour:
    """How a worker answers everything but its health check; changed by tests while it runs."""

    status: int = 200
    delay: float = 0.0
    ready: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    grpc: tuple[int, str] = (0, "")  # status and message for gRPC calls


class FakeWorker:
    """Answers every request with a JSON of its name, the path, the verb and the body's length; a gRPC call as
    docs/decisions/0009 wants it: a framed message (the same JSON) and trailers, or headers alone for an error."""

    def __init__(self, socket: Path, name: str) -> None:
        self.socket = socket
        self.name = name
        self.behaviour = Behaviour()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.waiting = 0  # answers that are due and whose caller is still there
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "FakeWorker":
        self.socket.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self, self._connections), str(self.socket))
        return self

    async def die(self) -> None:
        """As after kill -9: nobody listens, open connections are cut, requests under way are lost."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.cut()
        self.socket.unlink(missing_ok=True)
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, worker: FakeWorker, others: set["_Connection"]) -> None:
        self._worker = worker
        self._others = others
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._length = 0
        self._headers: dict[str, str] = {}
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._others.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)
        if self._due is not None:
            self._due.cancel()
            self._forget()

    def _forget(self) -> None:
        if self._due is not None:
            self._due, self._worker.waiting = None, self._worker.waiting - 1

    def cut(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path, self._length, self._headers = url.decode(), 0, {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._length += len(body)

    def on_message_complete(self) -> None:
        how = self._worker.behaviour
        method = self._parser.get_method().decode()
        if self._path == PATH_READY:
            self._answer(200 if how.ready else 503, b"{}", {})
            return
        self._worker.seen.append((method, self._path, self._headers))
        said = {"worker": self._worker.name, "path": self._path, "method": method, "length": self._length}
        text = json.dumps(said).encode()
        answer: Callable[[], None] = partial(self._answer, how.status, text, dict(how.headers))
        if self._headers.get("content-type", "").startswith("application/grpc"):
            answer = partial(self._answer_grpc, *how.grpc, text)
        if how.delay:
            self._worker.waiting += 1
            self._due = asyncio.get_running_loop().call_later(how.delay, answer)
        else:
            answer()

    def _answer_grpc(self, status: int, message: str, text: bytes) -> None:
        self._forget()
        if self._transport.is_closing():
            return
        head = f"HTTP/1.1 {WHOSE_FAULT.get(status, 500)} X\r\ncontent-type: application/grpc\r\n"
        end = f"grpc-status: {status}\r\n" + (f"grpc-message: {message}\r\n" if message else "")
        if status:
            self._transport.write(f"{head}content-length: 0\r\n{end}\r\n".encode())
            return
        frame = b"\0" + len(text).to_bytes(4, "big") + text
        chunk = b"%x\r\n%b\r\n0\r\n" % (len(frame), frame)
        self._transport.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunk + f"{end}\r\n".encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._forget()
        if self._transport.is_closing():
            return
        more = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self._transport.write(head.encode() + body)
