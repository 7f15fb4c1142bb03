"""Fetches a worker's own metrics over its Unix socket. Adapter only; who asks is deploy.http."""

import httpx

from contracts.errors import NotFound, Unavailable
from contracts.worker import PATH_METRICS
from deploy.ports import Fleet

SCRAPE_SECONDS = 2.0  # shorter than any scrape interval: a worker that hangs must not hold up the others


class WorkerScrape:
    """Knows the workers by the ids that the fleet shows."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def metrics(self, worker_id: str) -> bytes:
        """Prometheus text. Raises NotFound for an id nobody has, Unavailable when the worker does not answer."""
        found = next((w for w in self._fleet.workers() if w.id == worker_id), None)
        if found is None:
            ids = ", ".join(w.id for w in self._fleet.workers()) or "none"
            raise NotFound(f"no worker {worker_id[:100]!r}; there are: {ids[:500]}")
        if not found.endpoint:
            raise Unavailable(f"worker {worker_id} is {found.state}: {found.reason}")
        transport = httpx.AsyncHTTPTransport(uds=found.endpoint)
        try:
            async with httpx.AsyncClient(transport=transport, timeout=SCRAPE_SECONDS) as client:
                answer = await client.get(f"http://worker{PATH_METRICS}")
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"worker {worker_id} does not answer: {said}") from error
        if answer.status_code != 200:
            raise Unavailable(f"worker {worker_id} answered its metrics with {answer.status_code}")
        return answer.content
