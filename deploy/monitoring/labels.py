"""Labels as they came: what became of each, and how long after its answer, version by version.

Two versions can only be compared by their labels where these come equally late: that is what the lag is for.
"""

import itertools
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator

from contracts import metrics
from contracts.metrics import LAG_SECONDS
from deploy.feedback import Judgement, Result
from deploy.monitoring.readings import Reading
from deploy.rollout.deployment import Deployment


class Lags:
    """How late the labels of one version came, counted by upper bound; the last one is infinity."""

    def __init__(self) -> None:
        self._total = 0.0
        self._counts = [0] * (len(LAG_SECONDS) + 1)

    def saw(self, seconds: float) -> None:
        self._counts[bisect_left(LAG_SECONDS, seconds)] += 1
        self._total += seconds

    def readings(self, labels: tuple[str, ...]) -> Iterator[Reading]:
        bounds = [*map(str, LAG_SECONDS), "+Inf"]
        for bound, count in zip(bounds, itertools.accumulate(self._counts), strict=True):
            yield Reading(metrics.FEEDBACK_LAG, (*labels, bound), count, "_bucket")
        yield Reading(metrics.FEEDBACK_LAG, labels, sum(self._counts), "_count")
        yield Reading(metrics.FEEDBACK_LAG, labels, self._total, "_sum")


class Labels:
    """All labels since the start of this process."""

    def __init__(self) -> None:
        self._results: Tally[Result] = Tally()
        self._lags: dict[tuple[str, int], Lags] = {}

    def came(self, judgement: Judgement) -> None:
        self._results[judgement.result] += 1
        for version, seconds in judgement.ages:
            if judgement.model is not None:
                self._lags.setdefault((judgement.model, version), Lags()).saw(seconds)

    def readings(self, deployments: Iterable[Deployment]) -> Iterator[Reading]:
        for result in Result:
            yield Reading(metrics.FEEDBACK, (result.value,), self._results[result])
        for d in deployments:
            for _, place in d.places():
                lags = self._lags.get((d.model, place.version)) or Lags()  # none came yet
                yield from lags.readings((d.model, str(place.version), place.color.value))
