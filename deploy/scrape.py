"""Fetches what Envoy and the workers export: one worker's metrics for Prometheus, and the raw counters for rollouts.

Adapter only. What the counters mean is deploy/evidence; who asks is deploy.http and the tick.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import httpx

from contracts.errors import NotFound, Unavailable
from contracts.worker import PATH_METRICS
from deploy.evidence.counters import Sample
from deploy.evidence.scraped import envoy_samples, joined, worker_samples
from deploy.ports import Fleet, WorkerState
from router.naming import PREDICT

SCRAPES_AT_ONCE = 16
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


class ScrapedCounters:
    """Counters of this machine, asked of Envoy and of every worker concerned. `envoy` returns Envoy's Prometheus text.

    A worker that does not answer just now is left out of this look: its series only pause. Envoy that does not answer
    is no evidence at all."""

    def __init__(self, fleet: Fleet, envoy: Callable[[], Awaitable[str]]) -> None:
        self._fleet = fleet
        self._envoy = envoy
        self._scrape = WorkerScrape(fleet)
        self._at_once = asyncio.Semaphore(SCRAPES_AT_ONCE)

    async def look(self, versions: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], Sample]:
        """Raises Unavailable when Envoy cannot be asked."""
        workers = [
            w.id for w in self._fleet.workers() if (w.model, w.version) in versions and w.state is WorkerState.READY
        ]
        envoy, *texts = await asyncio.gather(self._envoy(), *(self._worker(each) for each in workers))
        own = [worker_samples(text, worker) for worker, text in zip(workers, texts, strict=True)]
        return {key: sample for key, sample in joined(envoy_samples(envoy, PREDICT), *own).items() if key in versions}

    async def _worker(self, worker_id: str) -> str:
        async with self._at_once:
            try:
                return (await self._scrape.metrics(worker_id)).decode("utf-8", "replace")
            except (NotFound, Unavailable):
                return ""
