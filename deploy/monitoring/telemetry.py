"""Rollouts in Prometheus: what the tick told, counted, and what is deployed now, read when somebody scrapes.

What the readings are is readings.py. Series of a model begin at 0 when it is first deployed and end with it.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram

from contracts import metrics
from contracts.metrics import Metric
from deploy.evidence.counters import GapKind
from deploy.feedback import Judgement
from deploy.monitoring.labels import Labels
from deploy.monitoring.observed_split import ObservedSplit
from deploy.monitoring.readings import Observed, Reading, readings, served
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.moves import Decision
from deploy.witness import Testimony

_ENDS = {State.PROMOTED: "promoted", State.ROLLED_BACK: "rolled_back"}
_GONE_BACK = frozenset({State.ROLLED_BACK, State.UNDONE})


class RolloutTelemetry:
    """An Onlooker that counts. It is told things in the event loop and asked from a thread that scrapes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._observed: Callable[[], Observed] | None = None
        self._decisions: Tally[tuple[str, ...]] = Tally()
        self._gaps: Tally[tuple[str, ...]] = Tally()
        self._newest: dict[str, float] = {}  # model → when its newest evidence came, wall seconds
        self._splits: dict[str, ObservedSplit] = {}
        self._labels = Labels()
        self._durations = _histogram(metrics.ROLLOUT_SECONDS_SPENT, registry)
        self._back = _histogram(metrics.ROLLBACK_APPLY_SECONDS, registry)
        for status in metrics.ROLLOUT_ENDS:
            self._durations.labels(status)

    def watch(self, observed: Callable[[], Observed]) -> None:
        """Read gauges from `observed` at every scrape."""
        self._observed = observed

    def share_of(self, model: str) -> float | None:
        """The candidate's share of the latest requests, 0 to 1; None when that is not known."""
        split = self._splits.get(model)
        return None if split is None else split.share

    def looked(self, deployment: Deployment, told: Testimony, at: float) -> None:
        model = deployment.model
        if told.counted is not None:
            self._newest[model] = at
            self._splits.setdefault(model, ObservedSplit()).saw(told.counted, at)
        elif deployment.trial is not None:  # a restart does not make old evidence young
            self._newest.setdefault(model, at - deployment.trial.unseen)
        if told.kind is not None:
            self._gaps[model, told.kind.value] += 1

    def decided(self, before: Deployment, decision: Decision, at: float) -> None:
        del at
        kind = ((decision.action or "").replace(" ", "_"), decision.because or "plan")
        self._decisions[before.model, *(kind if kind in metrics.DECISIONS else ("other", "other"))] += 1

    def applied(self, before: Deployment | None, after: Deployment, at: float) -> None:
        if after.trial is None:
            self._newest.pop(after.model, None)
            self._splits.pop(after.model, None)
        if before is None:
            return
        if before.trial is not None and after.trial is None:
            self._durations.labels(_ENDS.get(after.state, "other")).observe(before.trial.age)
        exposed = before.weight > 0 or after.state is State.UNDONE
        if after.state in _GONE_BACK and exposed and (before.state, before.since) != (after.state, after.since):
            self._back.observe(max(0.0, at - after.since))

    def labelled(self, judgement: Judgement) -> None:
        """A label came."""
        self._labels.came(judgement)

    def readings(self) -> Iterator[Reading]:
        """Everything there is to say of models now. Reads the database: call it in a thread."""
        if self._observed is None:
            return
        now = self._observed()._replace(observed_share=self.share_of)
        models = [d.model for d in served(now.deployments)]
        yield from readings(now)
        yield from _told(metrics.ROLLOUT_DECISIONS, models, metrics.DECISIONS, self._decisions)
        yield from _told(metrics.EVIDENCE_GAPS, models, [(kind.value,) for kind in GapKind], self._gaps)
        for model in models:
            if (at := self._newest.get(model)) is not None:
                yield Reading(metrics.LAST_EVIDENCE, (model,), at)
        yield from self._labels.readings(served(now.deployments))


def _told(
    metric: Metric, models: Iterable[str], kinds: Sequence[tuple[str, ...]], tally: Tally[tuple[str, ...]]
) -> Iterator[Reading]:
    """Every kind of every model, also what never happened: a series that appears with its first event has no rate."""
    for model in models:
        for kind in kinds:
            labels = (model, *kind)
            yield Reading(metric, labels, tally[labels])


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
