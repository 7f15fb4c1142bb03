"""The control plane's own metrics. The core tells facts; this file turns them into Prometheus series.

Gauges are read from the present state when somebody scrapes, so they cannot go stale or outlive a version.
"""

import logging
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contracts import metrics
from contracts.metrics import Metric
from deploy.ports import WorkerState, WorkerStatus
from deploy.reconcile import AppliedModel
from deploy.rollout.deployment import Deployment
from deploy.rollout.events import Verb
from router.ads import Kind

log = logging.getLogger(__name__)


class Telemetry:
    """One registry per control plane, so that tests and processes never share series."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._commands = self._counter(metrics.OPERATOR_COMMANDS)
        self._worker_restarts = self._counter(metrics.WORKER_RESTARTS)
        self._envoy_restarts = self._counter(metrics.ENVOY_RESTARTS)
        self._nacks = self._counter(metrics.XDS_NACKS)
        self._acks = Histogram(
            metrics.XDS_ACK_SECONDS.name,
            metrics.XDS_ACK_SECONDS.help,
            metrics.XDS_ACK_SECONDS.labels,
            buckets=metrics.XDS_ACK_SECONDS.buckets,
            registry=self._registry,
        )
        self._nodes = Gauge(metrics.XDS_NODES.name, metrics.XDS_NODES.help, registry=self._registry)
        self._restarts_seen: dict[str, int] = {}
        self._begin_with_zero()

    def watch(self, observed: "Callable[[], Observed]") -> None:
        """Read gauges from `observed` at every scrape."""
        self._registry.register(_Present(observed))

    def commanded(self, verb: Verb, result: str) -> None:
        """An operator's command ended; `result` is ok or a code of contracts.errors."""
        self._commands.labels(verb.value, result).inc()

    def acknowledged(self, kind: str, seconds: float) -> None:
        """Envoy acknowledged a configuration of `kind`."""
        self._acks.labels(kind).observe(seconds)

    def refused(self, kind: str, words: str) -> None:
        """Envoy refused a configuration of `kind`; its words are in the log and in the status, not in a label."""
        self._nacks.labels(kind).inc()
        log.error("Envoy refused %s: %s", kind, words)

    def connected(self, nodes: int) -> None:
        """So many Envoys are connected now."""
        self._nodes.set(nodes)

    def envoy_restarted(self) -> None:
        self._envoy_restarts.inc()

    def workers_seen(self, workers: Iterable[WorkerStatus]) -> None:
        """Count restarts from the fleet's own per-worker counts; a worker that is gone is forgotten."""
        seen = {}
        for worker in workers:
            seen[worker.id] = worker.restarts
            more = worker.restarts - self._restarts_seen.get(worker.id, 0)
            self._worker_restarts.labels(worker.model, str(worker.version), worker.color.value).inc(max(more, 0))
        self._restarts_seen = seen

    def exposition(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self._registry)

    def _begin_with_zero(self) -> None:
        """A series that appears with its first refusal has no rate over it."""
        for kind in Kind:
            self._nacks.labels(kind.value)
            self._acks.labels(kind.value)
        for verb in Verb:
            self._commands.labels(verb.value, "ok")

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)


class Observed:
    """The present state, gathered for one scrape."""

    def __init__(
        self,
        deployments: Collection[Deployment],
        workers: Collection[WorkerStatus],
        applied: Callable[[str], AppliedModel | None],
    ) -> None:
        self.deployments = deployments
        self.workers = workers
        self.applied = applied


class _Present(Collector):
    def __init__(self, observed: Callable[[], Observed]) -> None:
        self._observed = observed

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [_family(m) for m in (metrics.SLOT_INFO, metrics.WEIGHT_RATIO, metrics.WORKERS)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = self._observed()
        yield _slots(now)
        yield _weights(now)
        yield _workers(now)


def _slots(now: Observed) -> GaugeMetricFamily:
    family = _family(metrics.SLOT_INFO)
    for d in now.deployments:
        for role, place in d.places():
            family.add_metric([d.model, str(place.version), place.color.value, role.value, place.digest], 1)
    return family


def _weights(now: Observed) -> GaugeMetricFamily:
    family = _family(metrics.WEIGHT_RATIO)
    for d in now.deployments:
        applied = now.applied(d.model)
        for kind, split in (("desired", d.split()), ("applied", None if applied is None else applied.split)):
            if split is None:
                continue
            for _, place in d.places():
                share = split.share(place.color) / 10_000
                family.add_metric([d.model, str(place.version), place.color.value, kind], share)
    return family


def _workers(now: Observed) -> GaugeMetricFamily:
    family = _family(metrics.WORKERS)
    count = Tally((w.model, str(w.version), w.color.value, w.state) for w in now.workers)
    for model, version, color in sorted({key[:3] for key in count}):
        for state in WorkerState:  # every state, so that a count falls to 0 instead of vanishing
            family.add_metric([model, version, color, state.value], count[model, version, color, state])
    return family


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=list(metric.labels))
