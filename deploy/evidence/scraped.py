"""Raw counters out of what Envoy and the workers export, by model and version. Pure; fetching the text is elsewhere.

Envoy knows what callers saw, and which failures a second attempt hid from them; workers know their engine runs.
The same series have the same meaning whoever scraped them: `read` serves Prometheus' answers as well.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from contracts.metrics import BATCHES, LATENCY_SECONDS, PREDICTION_BIN_COUNT, PREDICTION_BINS, REQUESTS, BatchOutcome
from deploy.evidence.counters import Fact, Kind, Series, Source, Told, Version

ENVOY = "envoy"  # the one Envoy of this machine

_LINE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')

_CLASS = "envoy_cluster_upstream_rq_xx"
_DURATION = "envoy_cluster_upstream_rq_time"
_PLAIN = {
    "envoy_cluster_upstream_rq_completed": Fact.ANSWERED,
    "envoy_cluster_upstream_rq_retry_success": Fact.SAVED,
    "envoy_cluster_upstream_rq_timeout": Fact.TIMED_OUT,
    "envoy_cluster_upstream_rq_total": Fact.SENT,
    # Verified on 1.40 with HTTP/1.1 workers: a caller who leaves and a request whose time is over both close the
    # connection to the worker; neither shows up among the resets, and the caller who leaves nowhere else.
    "envoy_cluster_upstream_cx_destroy_local_with_active_rq": Fact.CUT,
    f"{_DURATION}_count": Fact.TIMED,
}
_CLASSES = {"4": Fact.REFUSED, "5": Fact.FAILED}
_BOUND_OF = {f"{seconds * 1000:g}": i for i, seconds in enumerate(LATENCY_SECONDS)}
_KINDS = {kind.value: kind for kind in (Kind.SPLIT, Kind.MIRROR, Kind.PINNED)}

UPTIME = "envoy_server_uptime"  # Envoy's own, brought up to date when somebody scrapes
BEGAN = "process_start_time_seconds"  # a worker's own; every Prometheus client has it
ENVOY_SERIES = frozenset({*_PLAIN, _CLASS, f"{_DURATION}_bucket"})
WORKER_SERIES = frozenset({BATCHES.name, PREDICTION_BINS.name, REQUESTS.name})

# The same for Envoy's admin, which wants the names of statistics: behind `cluster.<name>.`
STATISTICS = (
    r"(upstream_rq_(completed|total|[45]xx|retry_success|timeout|time)|upstream_cx_destroy_local_with_active_rq)"
)


class Meaning(NamedTuple):
    """What one exported series counts, and what of its value belongs to it."""

    version: Version
    kind: Kind
    series: Series


def read(name: str, labels: Mapping[str, str]) -> tuple[Meaning, ...]:
    """What an exported series counts; nothing when it is none of ours."""
    if name in WORKER_SERIES:
        facts = _worker_facts(name, labels)
        kind: Kind | None = Kind.WORKER
    else:
        kind = _KINDS.get(labels.get("kind", ""))
        facts = _envoy_facts(name, labels, kind)
    model, version = labels.get("model", ""), labels.get("version", "")
    if kind is None or not model or not version.isdecimal():
        return ()
    return tuple(Meaning((model, int(version)), kind, series) for series in facts)


def envoy_told(text: str, at: float, versions: Collection[Version]) -> Mapping[Version, Mapping[Source, Told]]:
    """What Envoy's /stats/prometheus says of these versions. Of what it does not mention it has counted nothing."""
    counts: dict[Version, dict[Kind, dict[Series, float]]] = {v: {k: {} for k in _KINDS.values()} for v in versions}
    life = 0.0
    for name, labels, value in _lines(text):
        if name == UPTIME:
            life = value
        for version, kind, series in read(name, labels):
            if version in counts and kind is not Kind.WORKER:
                add(counts[version][kind], series, value)
    return {
        version: {Source(kind, ENVOY): Told(at, life, found) for kind, found in kinds.items()}
        for version, kinds in counts.items()
    }


def worker_told(text: str, at: float) -> Told | None:
    """What one worker's /metrics says; None when that is nothing of ours."""
    counts: dict[Series, float] = {}
    life = 0.0
    for name, labels, value in _lines(text):
        if name == BEGAN:
            life = -value
        for _, _, series in read(name, labels):
            add(counts, series, value)
    return Told(at, life, counts) if counts else None


def add(counts: dict[Series, float], series: Series, value: float) -> None:
    """Several exported series may make one of ours, such as runs by outcome."""
    counts[series] = counts.get(series, 0.0) + value


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        bare = name.partition("{")[0]
        if bare in _WANTED:
            match = _LINE.fullmatch(line)
            labels, value = (match["labels"], match["value"]) if match else ("", rest)
            yield bare, dict(_LABEL.findall(labels)), _number(value)


_WANTED = ENVOY_SERIES | WORKER_SERIES | {UPTIME, BEGAN}


def _number(text: str) -> float:
    """Not a number when it is none: that is for the weighing to refuse, with the series' name."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _worker_facts(name: str, labels: Mapping[str, str]) -> tuple[Series, ...]:
    if name == PREDICTION_BINS.name:
        place = labels.get("bin", "")
        known = place.isdecimal() and int(place) < PREDICTION_BIN_COUNT
        return (Series(Fact.PREDICTED, int(place)),) if known else ()
    if name == REQUESTS.name:
        return (Series(Fact.PREDICTIONS),)
    failed = labels.get("outcome") == BatchOutcome.FAILED
    return (Series(Fact.BATCHES), Series(Fact.BATCHES_FAILED)) if failed else (Series(Fact.BATCHES),)


def _envoy_facts(name: str, labels: Mapping[str, str], kind: Kind | None) -> tuple[Series, ...]:
    cluster = labels.get("envoy_cluster_name", "")
    if kind is Kind.PINNED:  # only whether there were any is of interest
        return (Series(Fact.SENT, cluster=cluster),) if _PLAIN.get(name) is Fact.SENT else ()
    if name == _CLASS:
        fact = _CLASSES.get(labels.get("envoy_response_code_class", ""))
        return () if fact is None else (Series(fact, cluster=cluster),)
    if name == f"{_DURATION}_bucket":
        bound = _BOUND_OF.get(labels.get("le", ""))
        return () if bound is None else (Series(Fact.WITHIN, bound, cluster),)
    fact = _PLAIN.get(name)
    return () if fact is None else (Series(fact, cluster=cluster),)
