"""Counts what happened and shows it to Prometheus. Names, labels and bounds come from contracts.metrics.

On the hot path there are only integers and lists; prometheus_client sees them when somebody scrapes. Every series
exists from the start with 0, so that a rate over the first failure is not lost.
"""

import logging
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from contracts import metrics
from contracts.limits import MIB
from contracts.metrics import PREDICTION_BIN_COUNT, BatchOutcome, Metric, Outcome
from contracts.signature import Signature
from serving.batching.tickets import Outputs
from serving.state import Identity
from serving.summary import bins, predicted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOOK_SECONDS = 0.01  # between one engine run whose predictions are counted and the next
LOOK_BYTES = 4 * MIB  # of an output; to look at more would hold up the event loop

_log = logging.getLogger(__name__)


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
        self.prediction_bins = np.zeros(PREDICTION_BIN_COUNT, np.int64)
        self.look_from = -math.inf
        self._uncounted: set[str] = set()
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

    def ran_alone(self, rows: int, padding: int, seconds: float) -> None:
        self.batches["ok"] += 1
        self.padding += padding
        histogram = self.batch_rows
        histogram.counts[bisect_left(histogram.bounds, rows)] += 1
        histogram.total += rows
        histogram = self.batch_seconds
        histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
        histogram.total += seconds
        self.queue_wait.counts[0] += 1

    def waited(self, seconds: float) -> None:
        self.queue_wait.observe(seconds)

    def saw(self, signature: Signature, outputs: Outputs, now: float) -> None:
        """Count what one run predicted, and look away for LOOK_SECONDS: time picks the runs, never what is in them. No
        answer must be lost to the counting of it, whatever a model comes up with."""
        self.look_from = now + LOOK_SECONDS
        first = signature.outputs[0]
        try:
            seen = predicted(signature, outputs) if outputs[first.name].nbytes <= LOOK_BYTES else None
            if seen is not None:
                self.prediction_bins += bins(seen)
        except Exception:
            self.look_from = math.inf
            _log.exception(
                "predictions are not counted any more: the outputs of signature %s cannot be", signature.name
            )
        else:
            if seen is None and signature.name not in self._uncounted:
                self._uncounted.add(signature.name)
                _log.info(
                    "predictions of signature %s are not counted: output %s is %s %s, expected a class, a score or a "
                    "text per row in at most %d bytes",
                    signature.name, first.name, first.dtype, list(outputs[first.name].shape), LOOK_BYTES,
                )  # fmt: skip

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
        yield _counter(metrics.PREDICTION_BINS, facts.labels, dict(enumerate(facts.prediction_bins.tolist())))
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
