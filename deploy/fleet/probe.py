"""Asks a worker over its socket whether it is ready."""

import asyncio
from types import TracebackType
from typing import Self

import httpx

from contracts.worker import PATH_READY
from deploy.fleet.health import Answer


class SocketProbe:
    """Health questions to one incarnation of a worker, over one kept connection."""

    def __init__(self, socket: str, seconds: float) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket, limits=httpx.Limits(max_connections=1)),
            base_url="http://worker",
            timeout=httpx.Timeout(seconds),
        )
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def __call__(self) -> Answer:
        """READY for 200, NOT_READY for any other answer, SILENT for none. Takes `seconds` at most."""
        try:
            # httpx limits each read and write; a worker that drips one byte at a time needs a limit on the whole.
            async with asyncio.timeout(self._seconds):
                response = await self._client.get(PATH_READY)
        except (httpx.TransportError, TimeoutError):
            return Answer.SILENT
        return Answer.READY if response.status_code == httpx.codes.OK else Answer.NOT_READY
