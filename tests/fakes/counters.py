"""Counters in memory: a test says what callers got, and may break the source."""

from collections import Counter
from collections.abc import Collection, Mapping

from contracts.errors import Unavailable
from contracts.metrics import LATENCY_SECONDS
from deploy.evidence.counters import Fact, Sample, Series


class FakeCounters:
    """Honest Counters of one Envoy and one worker per version."""

    def __init__(self) -> None:
        self.broken: str | None = None  # what the source says instead of answering
        self.looks = 0
        self._counts: dict[tuple[str, int], Counter[Series]] = {}

    async def look(self, versions: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], Sample]:
        self.looks += 1
        if self.broken is not None:
            raise Unavailable(self.broken)
        return {key: {s: float(n) for s, n in self._counts[key].items()} for key in versions if key in self._counts}

    # what a test does to it

    def answer(self, model: str, version: int, requests: int, *, failed: int = 0, seconds: float = 0.002) -> None:
        """This many requests were answered, some of them with an error."""
        counts = self._counts.setdefault((model, version), Counter())
        counts[Series(Fact.ANSWERED, "envoy")] += requests
        counts[Series(Fact.FAILED, "envoy")] += failed
        counts[Series(Fact.TIMED, "envoy")] += requests
        counts[Series(Fact.BATCHES, "worker")] += requests
        for i, bound in enumerate(LATENCY_SECONDS):
            if seconds <= bound:
                counts[Series(Fact.WITHIN, "envoy", i)] += requests

    def restart(self, model: str, version: int) -> None:
        """All counters of a version begin anew."""
        self._counts.pop((model, version), None)
