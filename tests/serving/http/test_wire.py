"""The short way answers like the ASGI way and leaves the connection as HTTP/1.1 wants it: bytes in, bytes out."""

import asyncio
import io
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.http.app import App
from serving.server import WorkerServer
from serving.state import Stage
from tests.serving.http.asgi import Client, serving

PATH = "/v1/models/half_plus_two:predict"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection to a worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def reply(self) -> Reply:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body)

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


def request(values: object, *headers: str, path: str = PATH, version: str = "1.1", verb: str = "POST") -> bytes:
    body = values if isinstance(values, bytes) else json.dumps({"instances": values}).encode()
    lines = [f"{verb} {path} HTTP/{version}", "Host: worker", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Served:
    """A worker's server on a socket, and what its application saw."""

    client: Client
    server: WorkerServer
    path: str
    asgi_calls: list[str]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def on_a_socket(folder: Path, **how: Any) -> AsyncIterator[Served]:
    async with serving(**how) as client:
        asgi_calls: list[str] = []
        original = App.__call__

        class Watched(App):
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                asgi_calls.append(scope["path"])
                await original(self, scope, receive, send)

        client.app.__class__ = Watched
        server = WorkerServer(client.app)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / "w.sock"))
            listening.listen()
            task = asyncio.create_task(server.serve_on(listening))
            try:
                yield Served(client, server, str(folder / "w.sock"), asgi_calls)
            finally:
                server.stop(1)
                await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)


def told(folder: Path, story: Callable[[Served], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def main() -> None:
        async with on_a_socket(folder, **how) as served:
            await story(served)

    asyncio.run(main())


def test_a_small_prediction_takes_the_short_way_and_is_counted(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for n in range(3):
                wire.send(request([1.0, 2.0], f"X-Request-Id: r{n}"))
                reply = await wire.reply()
                assert (reply.status, reply.body) == (200, b'{"predictions":[2.5,3.0]}')
                assert reply.headers["x-request-id"] == f"r{n}"
                assert reply.headers["x-teal-version"] == "123"
        assert served.asgi_calls == []
        telemetry = served.client.telemetry
        assert telemetry.outcomes["ok"] == 3
        assert telemetry.rows == 6
        assert sum(telemetry.request_seconds.counts) == 3

    told(tmp_path, story)


def test_a_small_binary_tensor_takes_the_short_way_too(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        value = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
        text = json.dumps(value).encode()
        async with served.connection() as wire:
            for length, status in ((len(text), 200), (len(text) - 1, 400), (len(text), 200)):
                body = text + struct.pack("<2f", 1, 2)
                header = f"Inference-Header-Content-Length: {length}"
                wire.send(request(body, header, path="/v2/models/half_plus_two/infer"))
                reply = await wire.reply()
                assert reply.status == status
                if status == 200:
                    assert reply.headers["content-type"] == "application/octet-stream"
                    start = int(reply.headers["inference-header-content-length"])
                    assert json.loads(reply.body[:start])["outputs"][0]["parameters"] == {"binary_data_size": 8}
                    assert reply.body[start:] == struct.pack("<2f", 2.5, 3)
            wire.send(request([1.0]))
            assert (await wire.reply()).body == b'{"predictions":[2.5]}'
        assert served.asgi_calls == []

    told(tmp_path, story)


def test_a_small_array_takes_the_short_way_too(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        file = io.BytesIO()
        np.save(file, np.array([1, 2], np.float32))
        async with served.connection() as wire:
            wire.send(request(file.getvalue(), "Content-Type: application/x-npy"))
            assert (await wire.reply()).body == b'{"predictions":[2.5,3.0]}'
            wire.send(request(file.getvalue(), "Content-Type: application/x-npy", "Accept: application/x-npy"))
            reply = await wire.reply()
            assert reply.headers["content-type"] == "application/x-npy"
            assert np.load(io.BytesIO(reply.body)).tolist() == [2.5, 3.0]
        assert served.asgi_calls == []

    told(tmp_path, story)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (request([1.0], "Connection: keep-alive"), "says something about the connection"),
        (request([1.0], version="1.0"), "HTTP/1.0"),
        (request([1.0], "Expect: 100-continue"), "waits to be asked for the body"),
        (request([1.0], path=PATH + "?a=1"), "has a query"),
        (
            f"POST {PATH} HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b'13\r\n{"instances":[1.0]}\r\n0\r\n\r\n',
            "does not say how long it is",
        ),
    ],
)
def test_what_is_special_takes_the_asgi_way_to_the_same_answer(tmp_path: Path, raw: bytes, why: str) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(raw)
            reply = await wire.reply()
            if reply.status == 100:
                reply = await wire.reply()
            assert (reply.status, reply.body) == (200, b'{"predictions":[2.5]}'), why
        assert len(served.asgi_calls) == 1

    told(tmp_path, story)


def test_a_request_in_pieces_of_a_byte_is_answered_once(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for byte in request([1.0]):
                wire.send(bytes([byte]))
                await wire.writer.drain()
                await asyncio.sleep(0)
            assert (await wire.reply()).body == b'{"predictions":[2.5]}'
            wire.send(request([3.0]))
            assert (await wire.reply()).body == b'{"predictions":[3.5]}'

    told(tmp_path, story)


@pytest.mark.parametrize("cost", [10e-6, 100e-6, 1.0], ids=["at once", "gathered", "in the thread"])
def test_pipelined_requests_are_answered_in_order_whichever_way_they_take(tmp_path: Path, cost: float) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            special = [request([float(n)], *(["Connection: keep-alive"] if n % 3 == 0 else [])) for n in range(30)]
            wire.send(b"".join(special))
            for n in range(30):
                assert (await wire.reply()).body == json.dumps(
                    {"predictions": [n / 2 + 2]}, separators=(",", ":")
                ).encode()

    told(tmp_path, story, cost=cost)


def test_a_model_worth_waiting_for_is_decoded_twice_only_now_and_then(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for _ in range(3):
                wire.send(request([1.0]))
                assert (await wire.reply()).status == 200
        assert len(served.asgi_calls) == 3
        assert served.client.telemetry.outcomes["ok"] == 3
        assert served.client.app.short_way_from > 0

    told(tmp_path, story, cost=1.0)


def test_a_bad_body_is_refused_on_the_short_way_and_the_connection_lives_on(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(request(b'{"instances":[["a"]]}'))
            refused = await wire.reply()
            assert refused.status == 400
            assert "float32" in json.loads(refused.body)["error"]
            wire.send(request([1.0], "x-teal-timeout-ms: 0"))
            assert (await wire.reply()).status == 504
            wire.send(request([1.0]))
            assert (await wire.reply()).status == 200
        assert served.asgi_calls == []
        assert served.client.telemetry.outcomes["client_error"] == 1
        assert served.client.telemetry.outcomes["timeout"] == 1

    told(tmp_path, story)


def test_a_draining_worker_answers_and_closes(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            served.client.state.move(Stage.DRAINING, "asked to stop")
            wire.send(request([1.0]))
            reply = await wire.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await wire.ended()

    told(tmp_path, story)


@pytest.mark.parametrize("cost", [10e-6, 1.0], ids=["at once", "in the thread"])
def test_a_body_under_way_when_the_server_stops_is_still_answered(tmp_path: Path, cost: float) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            raw = request([1.0])
            wire.send(raw[:-5])
            await wire.writer.drain()
            await until(lambda: any(getattr(c, "_page", None) for c in served.server.server_state.connections))
            served.server.stop(5)
            await until(
                lambda: any(getattr(c, "_shutting_down", False) for c in served.server.server_state.connections)
            )
            wire.send(raw[-5:])
            reply = await wire.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")

    told(tmp_path, story, cost=cost)


def test_a_connection_that_leaves_in_mid_body_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        for _ in range(20):
            async with served.connection() as wire:
                wire.send(request([1.0])[:-3])
                await wire.writer.drain()
        await until(lambda: not served.server.server_state.connections)
        assert served.client.telemetry.outcomes["cancelled"] == 20
        async with served.connection() as wire:
            wire.send(request([1.0]))
            assert (await wire.reply()).status == 200

    told(tmp_path, story)


def test_what_is_not_http_is_400_and_the_end(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(b"BLAH BLAH\r\n\r\n")
            assert (await wire.reply()).status == 400
            assert await wire.ended()

    told(tmp_path, story)
