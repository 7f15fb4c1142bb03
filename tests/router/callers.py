"""Callers of an Envoy under test: the open-loop load of loadtests, half on kept connections and half on fresh ones, and
callers with keys."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtests.load import Load, Sample
from loadtests.openloop import Running, run, under_load

PREDICT = "/v1/models/digits:predict"
SECONDS = 300.0  # longer than any test takes; the load ends with its block

Mark = tuple[int, ...]


@dataclass(frozen=True)
class Callers:
    """A load under way. Nothing is tried again: what fails in any way is a failure."""

    runs: tuple[Running, ...]

    @property
    def failures(self) -> Counter[str]:
        return sum((each.outcome.failures for each in self.runs), Counter())

    @property
    def versions(self) -> Counter[str]:
        return sum((each.outcome.versions for each in self.runs), Counter())

    def mark(self) -> Mark:
        """This moment, for `since`."""
        return tuple(len(each.samples) for each in self.runs)

    def since(self, mark: Mark) -> list[Sample]:
        """What was answered after that moment."""
        return [s for each, first in zip(self.runs, mark, strict=True) for s in each.samples[first:]]

    def versions_since(self, mark: Mark) -> set[str]:
        return {s.version for s in self.since(mark)}


@asynccontextmanager
async def calling(port: int, rate: float = 300.0) -> AsyncIterator[Callers]:
    """Callers while the block runs; at its end everything sent was answered or has failed."""
    kept = Load(f"http://127.0.0.1:{port}{PREDICT}", rate / 2, SECONDS, body=b"{}", timeout=15.0)
    fresh = Load(kept.url, kept.rate, SECONDS, body=b"{}", timeout=15.0, fresh=True)
    async with under_load(kept) as first, under_load(fresh) as second:
        yield Callers((first, second))


async def versions_of_keys(port: int, keys: int) -> list[str]:
    """Which version answers the sticky keys user-0, user-1, …"""
    rate = 20_000.0  # at once: what is due waits for one of the connections
    load = Load(
        f"http://127.0.0.1:{port}{PREDICT}",
        rate,
        keys / rate,
        body=b"{}",
        headers=(("x-teal-key", "user-{n}"),),
        connections=8,
        timeout=15.0,
    )
    outcome = await run(load)
    assert (outcome.sent, outcome.ok) == (keys, keys), outcome.failures
    return [s.version for s in sorted(outcome.samples, key=lambda s: s.due)]
