"""An open-loop load: requests leave at their times whether or not earlier ones were answered, half on kept connections
and half on fresh ones. A request that fails in any way is recorded as a failure; nothing is tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SECONDS_PER_REQUEST = 15.0


@dataclass(frozen=True)
class Answer:
    sent: float  # on the loop's clock
    status: int  # 0: no answer, see `error`
    version: str = ""
    color: str = ""
    error: str = ""


@dataclass
class Load:
    port: int
    rate: float = 300.0
    path: Callable[[int], str] = lambda _: "/v1/models/digits:predict"
    answers: list[Answer] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    @property
    def failures(self) -> list[Answer]:
        return [a for a in self.answers if a.status != 200]

    async def run(self) -> None:
        """Send until cancelled; then let what is under way end."""
        loop = asyncio.get_running_loop()
        start, sent, under_way = loop.time(), 0, set[asyncio.Task[None]]()
        try:
            while True:
                task = asyncio.create_task(self._one(sent))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent += 1
                await asyncio.sleep(max(0.0, start + sent / self.rate - loop.time()))
        finally:
            await asyncio.gather(*under_way)
            for _, writer in self._idle:
                writer.close()

    async def _one(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            async with asyncio.timeout(SECONDS_PER_REQUEST):
                self.answers.append(await self._ask(number, sent))
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.answers.append(Answer(sent, 0, error=repr(error)))

    async def _ask(self, number: int, sent: float) -> Answer:
        keep = number % 2 == 0
        if keep and self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        end = "keep-alive" if keep else "close"
        status, headers = await exchange(reader, writer, self.path(number), {"connection": end})
        if keep and headers.get("connection") != "close":
            self._idle.append((reader, writer))
        else:
            writer.close()
        return Answer(sent, status, headers.get("x-teal-version", ""), headers.get("x-teal-color", ""))


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, more: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """One POST on an open connection: its status and headers."""
    headers = {"host": "t", "content-length": "2", **more}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "{}"]
    writer.write("\r\n".join(lines).encode())
    head, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answered = dict(line.lower().split(": ", 1) for line in rest if ": " in line)
    await reader.readexactly(int(answered["content-length"]))
    return int(head.split()[1]), answered


async def color_of_keys(port: int, keys: list[str], connections: int = 8) -> dict[str, str]:
    """Which color answers each sticky key."""
    found: dict[str, str] = {}

    async def some(mine: list[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for key in mine:
            status, headers = await exchange(reader, writer, "/v1/models/digits:predict", {"x-teal-key": key})
            assert status == 200
            found[key] = headers["x-teal-color"]
        writer.close()

    await asyncio.gather(*(some(keys[n::connections]) for n in range(connections)))
    return found


@asynccontextmanager
async def load(port: int, rate: float = 300.0) -> AsyncIterator[Load]:
    """Load while the block runs."""
    made = Load(port, rate)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
