"""A real Prometheus with the shipped configuration sees every process of a running gateway, and what it says of each
version is what was sent."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from contracts.metrics import REQUEST_SECONDS, REQUESTS
from tests.e2e.conftest import copied
from tests.e2e.gateway import Gateway, call, running
from tests.prometheus import Prometheus, needs_prometheus, prometheus

pytestmark = [pytest.mark.e2e, needs_prometheus]

VERSION = ("model", "version", "color")
GOOD, BAD = 200, 40
PREDICT = f'{{kind="predict",{VERSION[0]}="digits"}}'

Counts = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Watched:
    """A gateway with versions 1 (two workers) and 2 (one) at 50 %, what callers got from it, and who watched it.

    `good` and `bad` count the callers' answers by (model, version, color), as the answers' headers said it."""

    gateway: Gateway
    prometheus: Prometheus
    good: Counts
    bad: Counts

    @property
    def all(self) -> Counts:
        return {key: self.good[key] + self.bad[key] for key in self.good}

    def settled(self, promql: str, wanted: Counts) -> None:
        """Until Prometheus has scraped the last request, and says exactly `wanted` per version."""
        total = sum(wanted.values())
        self.prometheus.until(promql, lambda found: sum(s.value for s in found) >= total)
        assert self.prometheus.by(promql, *VERSION) == wanted


@pytest.fixture(scope="module")
def watched(seed_home: Path, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("metrics")
    with running(copied(seed_home, folder)) as gateway, prometheus(folder, gateway.admin_port) as prom:
        gateway.must("deploy", "digits", "1", "--replicas", "2", "--wait")
        gateway.must("deploy", "digits", "2", "--replicas", "1", "--strategy", "manual", "--wait")
        gateway.must("weight", "digits", "50")
        good = json.dumps({"instances": images[:1].tolist()}).encode()
        bad = json.dumps({"instances": [[0.5] * 63]}).encode()
        yield Watched(gateway, prom, sent(gateway, good, GOOD, 200), sent(gateway, bad, BAD, 400))


def sent(gateway: Gateway, body: bytes, times: int, status: int) -> Counts:
    """Send and count by who answered."""
    found: Counter[tuple[str, ...]] = Counter()
    for _ in range(times):
        answer = gateway.predict(body)
        assert answer.status == status, answer.body
        found[tuple(answer.headers[f"x-teal-{name}"] for name in VERSION)] += 1
    assert {key[1] for key in found} == {"1", "2"}, "at 50 % both versions answer"
    return {key: float(count) for key, count in found.items()}


def test_control_plane_envoy_and_every_worker_are_up(watched: Watched) -> None:
    workers = [w["id"] for role in ("live", "candidate") for w in watched.gateway.status()[role]["workers"]]
    assert len(workers) == 3
    expected = {("teal-control", "control"), ("teal-envoy", "envoy"), *(("teal-worker", w) for w in workers)}
    watched.prometheus.until("up == 1", lambda found: len(found) >= len(expected))
    assert set(watched.prometheus.by("up", "job", "instance")) == expected
    assert set(watched.prometheus.by("up == 1", "job", "instance")) == expected


def test_workers_count_requests_and_errors_per_version_exactly(watched: Watched) -> None:
    per_version = f"sum by (model, version, color) ({REQUESTS.name}%s)"
    watched.settled(per_version % "", watched.all)
    watched.settled(per_version % '{outcome="client_error"}', watched.bad)
    watched.settled(per_version % '{outcome="ok"}', watched.good)
    others = watched.prometheus.by(per_version % '{outcome!~"ok|client_error"}', *VERSION)
    assert set(others) == set(watched.good), "outcomes that never came are 0, not missing"
    assert set(others.values()) == {0.0}


def test_envoy_counts_requests_and_errors_per_version_exactly(watched: Watched) -> None:
    per_version = "sum by (model, version, color) (%s)"
    watched.settled(per_version % f"envoy_cluster_upstream_rq_total{PREDICT}", watched.all)
    bad = PREDICT.replace("}", ',envoy_response_code_class="4"}')
    watched.settled(per_version % f"envoy_cluster_upstream_rq_xx{bad}", watched.bad)


def test_latency_quantiles_per_version_come_from_workers_and_from_envoy(watched: Watched) -> None:
    watched.settled(f"sum by (model, version, color) ({REQUEST_SECONDS.name}_count)", watched.all)
    watched.settled(f"sum by (model, version, color) (envoy_cluster_upstream_rq_time_count{PREDICT})", watched.all)
    for buckets, unit in (
        (f"{REQUEST_SECONDS.name}_bucket", 1.0),
        (f"envoy_cluster_upstream_rq_time_bucket{PREDICT}", 1e-3),  # Envoy's are in milliseconds
    ):
        half, most = (
            watched.prometheus.by(f"histogram_quantile({q}, sum by (le, model, version, color) ({buckets}))", *VERSION)
            for q in (0.5, 0.99)
        )
        assert set(half) == set(most) == set(watched.all), buckets
        for key in half:
            assert 0 < half[key] * unit <= most[key] * unit <= 30, (buckets, key)


def test_weights_and_roles_are_told_per_version(watched: Watched) -> None:
    watched.prometheus.until("teal_rollout_weight_ratio == 0.5", lambda found: len(found) == 4)
    shares = watched.prometheus.by("teal_rollout_weight_ratio", "version", "kind")
    assert shares == {(version, kind): 0.5 for version in "12" for kind in ("desired", "applied")}
    roles = watched.prometheus.by("teal_slot_info", "version", "role")
    assert set(roles) == {("1", "live"), ("2", "candidate")}


def test_the_targets_are_named_as_prometheus_names_them(watched: Watched) -> None:
    listed = call(f"{watched.gateway.admin}/api/v1/targets").json
    told = {(entry["labels"]["job"], entry["labels"]["instance"]) for entry in listed}
    assert told == set(watched.prometheus.by("up", "job", "instance"))
