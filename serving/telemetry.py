"""Counts what happened and shows it to Prometheus. Names, labels and bounds come from contracts.metrics.

On the hot path there are only integers and lists; prometheus_client sees them when somebody scrapes. Every series
exists from the start with 0, so that a rate over the first failure is not lost.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from contracts import metrics
from contracts.metrics import BatchOutcome, Metric, Outcome
from serving.state import Identity

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts by upper bound, the last one being infinity."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        pairs, running = [], 0
        for bound, count in zip((*map(float, self.bounds), float("inf")), self.counts, strict=True):
            running += count
            pairs.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return pairs


class Waiting(Protocol):
    """Who knows how many rows wait."""

    @property
    def queued_rows(self) -> int: ...


class Telemetry:
    """The facts of one worker. Tells nobody anything until `exposition` is asked for."""

    def __init__(self, identity: Identity) -> None:
        self.labels = (identity.model, str(identity.version), identity.color.value)
        self.digest = identity.digest
        self.plan = ""
        # By plain text: an enum member as key costs a Python call for its hash.
        self.outcomes = {outcome.value: 0 for outcome in Outcome}
        self.rejected = dict.fromkeys(metrics.REJECTED_REASONS, 0)
        self.batches = {outcome.value: 0 for outcome in BatchOutcome}
        self.rows = 0
        self.padding = 0
        self.request_seconds = Histogram(metrics.REQUEST_SECONDS.buckets)
        self.batch_rows = Histogram(metrics.BATCH_SIZE.buckets)
        self.batch_seconds = Histogram(metrics.BATCH_SECONDS.buckets)
        self.queue_wait = Histogram(metrics.QUEUE_WAIT.buckets)
        self.ready = False
        self.suspicion = ""  # why this version is not to be trusted; empty while it is
        self.load_seconds = 0.0
        self.waiting: Waiting | None = None
        self._registry = CollectorRegistry()
        self._registry.register(_WorkerCollector(self))
        ProcessCollector(registry=self._registry)

    def loaded(self, plan: str, seconds: float, waiting: Waiting) -> None:
        """The model is warm, `seconds` after the process began; `waiting` knows the queue from now on."""
        self.plan, self.load_seconds, self.waiting = plan, seconds, waiting

    def answered(self, outcome: Outcome, seconds: float) -> None:
        """A prediction request ended, `seconds` after its first byte was read."""
        self.outcomes[outcome.value] += 1
        self.request_seconds.observe(seconds)

    def answered_well(self, rows: int, seconds: float) -> None:
        """As `answered` with OK, for a request of `rows` that took the short way."""
        self.outcomes["ok"] += 1
        self.rows += rows
        histogram = self.request_seconds
        histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
        histogram.total += seconds

    def refused(self, reason: str) -> None:
        """A prediction request was turned down before any compute, for one of REJECTED_REASONS."""
        self.rejected[reason] += 1

    def ran(self, rows: int, padding: int, seconds: float, ok: bool) -> None:
        self.batches["ok" if ok else "failed"] += 1
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)
        self.padding += padding

    def waited(self, seconds: float) -> None:
        self.queue_wait.observe(seconds)

    def wrong(self, reason: str) -> None:
        """The model answered with what its signature rules out: it is not what was verified."""
        self.suspicion = reason

    def exposition(self) -> bytes:
        """Everything as Prometheus text."""
        return generate_latest(self._registry)


class _WorkerCollector(Collector):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        facts = self._telemetry
        yield _counter(metrics.REQUESTS, facts.labels, facts.outcomes)
        yield _histogram(metrics.REQUEST_SECONDS, facts.labels, facts.request_seconds)
        yield _counter(metrics.REQUEST_ROWS, facts.labels, {None: facts.rows})
        yield _counter(metrics.BATCHES, facts.labels, facts.batches)
        yield _histogram(metrics.BATCH_SIZE, facts.labels, facts.batch_rows)
        yield _histogram(metrics.BATCH_SECONDS, facts.labels, facts.batch_seconds)
        yield _histogram(metrics.QUEUE_WAIT, facts.labels, facts.queue_wait)
        yield _gauge(metrics.QUEUE_ROWS, facts.labels, facts.waiting.queued_rows if facts.waiting else 0)
        yield _counter(metrics.PADDING_ROWS, facts.labels, {None: facts.padding})
        yield _counter(metrics.REJECTED, facts.labels, facts.rejected)
        yield _gauge(metrics.WORKER_READY, facts.labels, float(facts.ready))
        yield _gauge(metrics.WORKER_INFO, (*facts.labels, facts.digest, facts.plan), 1)
        yield _gauge(metrics.WORKER_SUSPECT, facts.labels, float(bool(facts.suspicion)))
        yield _gauge(metrics.LOAD_SECONDS, facts.labels, facts.load_seconds)


def _counter(metric: Metric, labels: tuple[str, ...], values: Mapping[Any, int]) -> Family:
    """`values` by the last label's value; None where there is no label beyond the version's."""
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for last, value in values.items():
        family.add_metric(labels if last is None else (*labels, str(last)), value)
    return family


def _gauge(metric: Metric, labels: tuple[str, ...], value: float) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, labels: tuple[str, ...], histogram: Histogram) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    family.add_metric(labels, histogram.cumulative(), histogram.total)
    return family
