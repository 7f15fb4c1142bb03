"""Workers for the router's tests: small honest HTTP/1.1 servers on Unix sockets that can be slow, dead or rude."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools

from contracts.worker import PATH_READY


@dataclass
class Behaviour:
    """How a worker answers everything but its health check; changed by tests while it runs."""

    status: int = 200
    delay: float = 0.0
    ready: bool = True
    headers: dict[str, str] = field(default_factory=dict)


class FakeWorker:
    """Answers every request with a JSON of its name, the path, the verb and the body's length."""

    def __init__(self, socket: Path, name: str) -> None:
        self.socket = socket
        self.name = name
        self.behaviour = Behaviour()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
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

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._others.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)

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
        arguments = (how.status, json.dumps(said).encode(), dict(how.headers))
        if how.delay:
            asyncio.get_running_loop().call_later(how.delay, self._answer, *arguments)
        else:
            self._answer(*arguments)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if self._transport.is_closing():
            return
        more = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self._transport.write(head.encode() + body)
