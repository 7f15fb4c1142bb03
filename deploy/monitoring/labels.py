"""Labels as they came: what became of each, and how long after its answer, version by version.

Two versions can only be compared by their labels where these come equally late: that is what the lag is for.
"""

from bisect import bisect_left
from collections import Counter as Tally

from contracts.metrics import LAG_SECONDS
from deploy.feedback import Judgement, Result


class Lags:
    """How late the labels of one version came, counted by upper bound; the last one is infinity."""

    def __init__(self) -> None:
        self.total = 0.0
        self._counts = [0] * (len(LAG_SECONDS) + 1)

    def saw(self, seconds: float) -> None:
        self._counts[bisect_left(LAG_SECONDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bound, as Prometheus writes it, with how many were not later."""
        bounds = [*map(str, LAG_SECONDS), "+Inf"]
        return [(bound, float(sum(self._counts[: nth + 1]))) for nth, bound in enumerate(bounds)]


class Labels:
    """All labels since the start of this process."""

    def __init__(self) -> None:
        self.results: Tally[Result] = Tally()
        self._lags: dict[tuple[str, int], Lags] = {}

    def came(self, judgement: Judgement) -> None:
        self.results[judgement.result] += 1
        for version, seconds in judgement.ages:
            if judgement.model is not None:
                self._lags.setdefault((judgement.model, version), Lags()).saw(seconds)

    def lags_of(self, model: str, version: int) -> Lags:
        """None came yet: all counts are 0."""
        return self._lags.get((model, version)) or Lags()
