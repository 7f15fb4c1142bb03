"""The control plane's own metrics. The core tells facts; this file turns them into Prometheus series.

What is said of each model is deploy/monitoring.
"""

import logging
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts import metrics
from contracts.metrics import Metric
from deploy.monitoring.exposition import text
from deploy.monitoring.readings import Observed
from deploy.monitoring.telemetry import RolloutTelemetry
from deploy.ports import WorkerStatus
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
        self._restarted: set[tuple[str, str, str]] = set()
        self.rollouts = RolloutTelemetry(self._registry)
        self._begin_with_zero()

    def watch(self, observed: Callable[[], Observed]) -> None:
        """Read gauges from `observed` at every scrape."""
        self.rollouts.watch(observed)

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
        """Count restarts from the fleet's own per-worker counts; a worker that is gone is forgotten, and so are the
        series of a version that has none any more."""
        workers = list(workers)
        seen = {}
        for worker in workers:
            seen[worker.id] = worker.restarts
            more = worker.restarts - self._restarts_seen.get(worker.id, 0)
            self._worker_restarts.labels(*_version(worker)).inc(max(more, 0))
        versions = {_version(worker) for worker in workers}
        for gone in self._restarted - versions:
            self._worker_restarts.remove(*gone)
        self._restarts_seen, self._restarted = seen, versions

    def exposition(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self._registry) + text(self.rollouts.readings()).encode()

    def _begin_with_zero(self) -> None:
        """A series that appears with its first refusal has no rate over it."""
        for kind in Kind:
            self._nacks.labels(kind.value)
            self._acks.labels(kind.value)
        for verb in Verb:
            for result in metrics.COMMAND_RESULTS:
                self._commands.labels(verb.value, result)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)


def _version(worker: WorkerStatus) -> tuple[str, str, str]:
    return worker.model, str(worker.version), worker.color.value
