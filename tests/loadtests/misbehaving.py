"""A server on a free port that does with each request what the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@dataclass
class Server:
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def serving(behave: Behaviour) -> AsyncIterator[Server]:
    """`behave(writer, n)` answers the n-th request. The connection is kept unless it closes it."""
    here = Server()
    writers: list[asyncio.StreamWriter] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        writers.append(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.partition(b": ")[::2] for line in head.split(b"\r\n"))
                body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
                here.requests.append(head + body)
                await behave(writer, len(here.requests) - 1)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/models/digits:predict"
    try:
        yield here
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


def answer(status: str = "200 OK", *headers: str, body: bytes = b"{}") -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def fine(writer: asyncio.StreamWriter, n: int) -> None:
    writer.write(answer("200 OK", f"x-teal-version: {1 + n % 2}"))


async def hang_up(writer: asyncio.StreamWriter, n: int) -> None:
    writer.close()


async def nothing(writer: asyncio.StreamWriter, n: int) -> None:
    return
