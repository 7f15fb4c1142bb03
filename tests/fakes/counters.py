"""Counters in memory: a test says what callers got, and may break the source."""

from collections import Counter
from collections.abc import Collection

from contracts.errors import Unavailable
from contracts.metrics import LATENCY_SECONDS
from deploy.evidence.counters import Fact, Kind, Looked, Series, Source, Told, Version


class FakeCounters:
    """Honest Counters of one Envoy and one worker per version. Its clock goes on with every look."""

    def __init__(self) -> None:
        self.broken: str | None = None  # what the source says instead of answering
        self.looks = 0
        self._counts: dict[Version, dict[Kind, Counter[Series]]] = {}

    async def look(self, versions: Collection[Version]) -> Looked:
        self.looks += 1
        if self.broken is not None:
            raise Unavailable(self.broken)
        samples = {
            version: {
                Source(kind, "fake"): Told(self.looks, counts={s: float(n) for s, n in counts.items()})
                for kind, counts in self._of(version).items()
            }
            for version in versions
        }
        return Looked(self.looks, samples)

    # what a test does to it

    def answer(
        self,
        model: str,
        version: int,
        requests: int,
        *,
        failed: int = 0,
        seconds: float = 0.002,
        kind: Kind = Kind.SPLIT,
        batches: int | None = None,
    ) -> None:
        """This many requests were answered, some of them with an error, in as many engine runs unless said."""
        counts = self._of((model, version))
        counts[Kind.WORKER][Series(Fact.BATCHES)] += requests if batches is None else batches
        counts[kind] += Counter(
            {Series(Fact.ANSWERED): requests, Series(Fact.FAILED): failed, Series(Fact.TIMED): requests}
        )
        counts[kind] += Counter(
            {Series(Fact.WITHIN, i): requests for i, bound in enumerate(LATENCY_SECONDS) if seconds <= bound}
        )

    def restart(self, model: str, version: int) -> None:
        """All counters of a version begin anew."""
        self._counts.pop((model, version), None)

    def _of(self, version: Version) -> dict[Kind, Counter[Series]]:
        return self._counts.setdefault(version, {kind: Counter() for kind in Kind})
