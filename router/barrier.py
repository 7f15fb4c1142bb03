"""Have all of Envoy's threads taken up the route table it acknowledged?

Envoy acknowledges routes on its main thread and then posts them to its worker threads; it never tells when they have
them. A thread takes a posted table up before or together with whatever it does next, which is microseconds later on an
idle machine and unknown on a busy one. So we ask: each route table names itself in the answer to PATH_TABLE, and each
thread has a listening socket of its own among which Linux deals out fresh connections. When many fresh connections in
a row are all answered by the new table, a thread that still has the former one would have had to receive none of them:
with N threads and 16·N connections the chance is below N·e^-16, one in four million for two.
"""

import asyncio

from contracts.errors import Unavailable
from router.route_table import HEADER_TABLE, PATH_TABLE

PER_THREAD = 16
MOST_PROBES = 256
ALIVE_SECONDS = 2.0  # for one probe

_REQUEST = f"GET {PATH_TABLE} HTTP/1.1\r\nhost: teal\r\nconnection: close\r\n\r\n".encode()


class Barrier:
    """Asks Envoy's predictions port at host and port, which has `threads` worker threads."""

    def __init__(self, host: str, port: int, threads: int) -> None:
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        self._port = port
        self._wanted = min(PER_THREAD * threads, MOST_PROBES)

    async def passed(self, mark: str, seconds: float) -> None:
        """Return once enough fresh connections in a row were answered by the table `mark`.
        Raises Unavailable when that does not happen within `seconds`."""
        in_a_row = 0
        try:
            async with asyncio.timeout(seconds):
                while in_a_row < self._wanted:
                    in_a_row = in_a_row + 1 if await self._table() == mark else 0
        except TimeoutError:
            raise Unavailable(f"Envoy acknowledged routes {mark} and did not use them within {seconds:g} s") from None

    async def _table(self) -> str | None:
        """The table behind one fresh connection; None when there was no answer."""
        try:
            async with asyncio.timeout(ALIVE_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(_REQUEST)
                    head = await reader.readuntil(b"\r\n\r\n")
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.sleep(0.01)  # a full accept queue or an Envoy that restarts: not a reason to spin
            return None
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == HEADER_TABLE:
                return value.strip()
        return None
