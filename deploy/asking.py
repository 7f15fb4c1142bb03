"""Asks workers over their own sockets: one kept connection to each, a limit for every answer, and a sentence when there
is none. What is asked is for callers.
"""

import asyncio
from typing import Any

import httpx

from contracts.errors import Unavailable
from deploy.ports import Fleet, WorkerStatus


class Workers:
    """The workers that the fleet shows, to be asked. `seconds` is for a whole answer; httpx' own limit is for each
    piece of it."""

    def __init__(self, fleet: Fleet, seconds: float) -> None:
        self._fleet = fleet
        self._seconds = seconds
        self._clients: dict[str, httpx.AsyncClient] = {}  # by socket

    async def ask(self, worker: WorkerStatus, method: str, path: str, **how: Any) -> httpx.Response:
        """A good answer. Raises Unavailable when there is none."""
        if not worker.endpoint:
            raise Unavailable(f"worker {worker.id} is {worker.state}: {worker.reason}")
        client = await self._client(worker.endpoint)
        try:
            async with asyncio.timeout(self._seconds):
                answer = await client.request(method, f"http://worker{path}", **how)
        except (httpx.HTTPError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"worker {worker.id} does not answer: {said}") from error
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(f"worker {worker.id} answered {path} with {answer.status_code}")
        return answer

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _client(self, endpoint: str) -> httpx.AsyncClient:
        if endpoint not in self._clients:
            here = {w.endpoint for w in self._fleet.workers()}
            for gone in self._clients.keys() - here:
                await self._clients.pop(gone).aclose()
            transport = httpx.AsyncHTTPTransport(uds=endpoint)
            self._clients[endpoint] = httpx.AsyncClient(transport=transport, timeout=self._seconds)
        return self._clients[endpoint]
