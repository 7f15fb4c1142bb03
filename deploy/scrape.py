"""Fetches what Envoy and the workers export: one worker's metrics for Prometheus, and the raw counters for rollouts.

Adapter only. What the counters mean is deploy/evidence; who asks is deploy.http and the tick.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from contracts.clock import Clock
from contracts.errors import NotFound, Unavailable
from contracts.worker import PATH_METRICS
from deploy.asking import Workers
from deploy.evidence.counters import Gap, GapKind, Kind, Looked, Source, Told, Version
from deploy.evidence.scraped import STATISTICS, envoy_told, worker_told
from deploy.ports import Fleet, WorkerState, WorkerStatus

SCRAPES_AT_ONCE = 16
SCRAPE_SECONDS = 2.0  # shorter than any scrape interval: a worker that hangs must not hold up the others
LONG = 64 * 1024  # bytes of text from which on reading it is a thread's work


class WorkerScrape:
    """Knows the workers by the ids that the fleet shows."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._workers = Workers(fleet, SCRAPE_SECONDS)

    async def metrics(self, worker_id: str) -> bytes:
        """Prometheus text. Raises NotFound for an id nobody has, Unavailable when the worker does not answer."""
        found = next((w for w in self._fleet.workers() if w.id == worker_id), None)
        if found is None:
            ids = ", ".join(w.id for w in self._fleet.workers()) or "none"
            raise NotFound(f"no worker {worker_id[:100]!r}; there are: {ids[:500]}")
        return await self.of(found)

    async def of(self, worker: WorkerStatus) -> bytes:
        """As `metrics`."""
        return (await self._workers.ask(worker, "GET", PATH_METRICS)).content

    async def close(self) -> None:
        await self._workers.close()


class ScrapedCounters:
    """Counters of this machine, asked of Envoy and of every worker concerned. `envoy` takes models and what is wanted
    of their clusters, and returns Envoy's Prometheus text, in as many pieces as it took to ask for it.

    A ready worker that does not answer just now is a Gap. Envoy that does not answer is no evidence at all."""

    def __init__(
        self,
        envoy: Callable[[Collection[str], str], Awaitable[list[str]]],
        fleet: Fleet,
        scrape: WorkerScrape,
        clock: Clock,
    ) -> None:
        self._envoy = envoy
        self._fleet = fleet
        self._scrape = scrape
        self._clock = clock
        self._at_once = asyncio.Semaphore(SCRAPES_AT_ONCE)

    async def look(self, versions: Collection[Version]) -> Looked:
        """Raises Unavailable when Envoy cannot be asked."""
        at = self._clock.monotonic()
        workers = [
            w for w in self._fleet.workers() if (w.model, w.version) in versions and w.state is WorkerState.READY
        ]
        texts, told = await asyncio.gather(
            self._envoy(sorted({model for model, _ in versions}), STATISTICS),
            asyncio.gather(*(self._ask(worker, at) for worker in workers)),
        )
        samples: dict[Version, dict[Source, Told | Gap]] = {version: {} for version in versions}
        for version, sample in (await _read(envoy_told, "\n".join(texts), at, versions)).items():
            samples[version].update(sample)
        for worker, said in zip(workers, told, strict=True):
            samples[worker.model, worker.version][Source(Kind.WORKER, worker.id)] = said
        return Looked(at, samples)

    async def _ask(self, worker: WorkerStatus, at: float) -> Told | Gap:
        async with self._at_once:
            try:
                text = (await self._scrape.of(worker)).decode("utf-8", "replace")
            except Unavailable as error:
                return Gap(error.message, GapKind.MISSING)
        told = await _read(worker_told, text, at)
        return told or Gap(f"worker {worker.id} does not export what rollouts count", GapKind.MISSING)


async def _read(reader: Callable[..., Any], text: str, *more: Any) -> Any:
    """Off the event loop when there is much to read."""
    return reader(text, *more) if len(text) < LONG else await asyncio.to_thread(reader, text, *more)
