"""A worker that resets most of its connections: it answers when asked whether it is well, and drops predictions before
their answer. Stands in front of a real worker's socket.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.gateway import eventually


def socket_of(pid: int) -> Path:
    """Where a worker listens, from its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(words[words.index(b"--socket") + 1].decode())


@contextmanager
def resetting(socket: Path, *, served: int = 1, of: int = 5) -> Iterator[None]:
    """Of every `of` predictions only the last `served` reach the worker; the connections of the others are reset."""
    behind = socket.with_suffix(".behind")
    eventually(f"{socket} is there", socket.exists, 30, pause=0.005)
    socket.rename(behind)
    ready, stop = threading.Event(), threading.Event()

    async def until_told() -> None:
        async with await asyncio.start_unix_server(_Front(behind, of - served, of).serve, str(socket)):
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(until_told()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), f"nobody listens in front of {socket}"
        yield
    finally:
        stop.set()
        thread.join(10)
        for path in (socket, behind):
            path.unlink(missing_ok=True)


class _Front:
    def __init__(self, behind: Path, lost: int, of: int) -> None:
        self._behind, self._lost, self._of = str(behind), lost, of
        self._predictions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Either side may leave at any time.
        with contextlib.suppress(OSError, EOFError):
            line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            if b":predict" in line:
                self._predictions += 1
                if self._predictions % self._of < self._lost:
                    writer.transport.abort()
                    return
            worker_reader, worker = await asyncio.open_unix_connection(self._behind)
            # One request for each connection, so that each is counted.
            worker.write(line + b"\r\nconnection: close\r\n" + rest)
            await asyncio.gather(_pass_on(reader, worker), _pass_on(worker_reader, writer))
        writer.close()


async def _pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while chunk := await source.read(65536):
        to.write(chunk)
        await to.drain()
    to.close()
