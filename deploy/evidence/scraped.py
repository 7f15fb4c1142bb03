"""Raw counters out of what Envoy and the workers export, by model and version. Pure; fetching the text is elsewhere.

Envoy knows what callers saw, and which failures a second attempt hid from them; workers know their engine runs.
Nothing else is read, so a line that is not ours costs a look at its beginning.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from contracts.metrics import BATCHES, LATENCY_SECONDS, BatchOutcome
from deploy.evidence.counters import Fact, Sample, Series

Version = tuple[str, int]
"""Model and version."""

ENVOY = "envoy"
_LINE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')

_CLASS = "envoy_cluster_upstream_rq_xx"
_DURATION = "envoy_cluster_upstream_rq_time"
_PLAIN = {
    "envoy_cluster_upstream_rq_completed": Fact.ANSWERED,
    "envoy_cluster_upstream_rq_retry_success": Fact.SAVED,
    f"{_DURATION}_count": Fact.TIMED,
}
_CLASSES = {"4": Fact.REFUSED, "5": Fact.FAILED}
_BOUND_OF = {f"{seconds * 1000:g}": i for i, seconds in enumerate(LATENCY_SECONDS)}


def envoy_samples(text: str, kind: str) -> Mapping[Version, Sample]:
    """What Envoy's /stats/prometheus says of clusters of one kind (router.naming)."""
    found: dict[Version, dict[Series, float]] = defaultdict(dict)
    for name, labels, value in _lines(text, "envoy_cluster_upstream_rq_"):
        fact, bound = _envoy_fact(name, labels)
        if fact is not None and labels.get("kind") == kind:
            found[_version(labels)][Series(fact, ENVOY, bound)] = value
    return found


def worker_samples(text: str, worker: str) -> Mapping[Version, Sample]:
    """What one worker's /metrics says; `worker` tells its series from those of its siblings and successors."""
    found: dict[Version, dict[Series, float]] = defaultdict(dict)
    for _, labels, value in _lines(text, BATCHES.name):
        sample = found[_version(labels)]
        _add(sample, Series(Fact.BATCHES, worker), value)
        if labels["outcome"] == BatchOutcome.FAILED:
            _add(sample, Series(Fact.BATCHES_FAILED, worker), value)
    return found


def joined(*parts: Mapping[Version, Sample]) -> Mapping[Version, Sample]:
    """All series of each version."""
    whole: dict[Version, dict[Series, float]] = defaultdict(dict)
    for part in parts:
        for version, sample in part.items():
            whole[version].update(sample)
    return whole


def _lines(text: str, prefix: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if line.startswith(prefix) and (match := _LINE.fullmatch(line)) is not None:
            yield match["name"], dict(_LABEL.findall(match["labels"])), float(match["value"])


def _envoy_fact(name: str, labels: Mapping[str, str]) -> tuple[Fact | None, int]:
    if name == _CLASS:
        return _CLASSES.get(labels.get("envoy_response_code_class", "")), -1
    if name == f"{_DURATION}_bucket":
        bound = _BOUND_OF.get(labels.get("le", ""))
        return (None, -1) if bound is None else (Fact.WITHIN, bound)
    return _PLAIN.get(name), -1


def _version(labels: Mapping[str, str]) -> Version:
    return labels["model"], int(labels["version"])


def _add(sample: dict[Series, float], series: Series, value: float) -> None:
    sample[series] = sample.get(series, 0.0) + value
