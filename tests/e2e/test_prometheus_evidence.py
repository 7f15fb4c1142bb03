"""A real gateway whose rollout asks a real Prometheus with the shipped configuration; when that is gone, the gateway's
own scraper goes on counting."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deploy.evidence.counters import GapKind
from loadtests.load import Load
from loadtests.openloop import load_in_thread
from tests.e2e.conftest import copied
from tests.e2e.gateway import Gateway, call, end_all, eventually
from tests.prometheus import Prometheus, needs_prometheus, prometheus

pytestmark = [pytest.mark.e2e, needs_prometheus]

# Errors alone, and a step that outlasts the test: what the two models need for a prediction is nobody's business here.
PLAN = """
strategy: canary
deadline: 1h
steps: [{weight: 50 %, dwell: 10m}]
guardrails: [{watched: errors, share: 1.0, objective: 0.05}]
"""
RATE = 40


@dataclass
class Asking:
    """A gateway with a rollout under way that asks `prometheus`; `stop` ends that Prometheus."""

    gateway: Gateway
    prometheus: Prometheus
    stop: ExitStack

    def counted(self) -> int:
        """Requests that the rollout has taken as evidence so far."""
        (errors,) = self.gateway.status()["rollout"]["evidence"]["guardrails"]
        return int(errors["live"]["units"] + errors["candidate"]["units"])

    def more(self, than: int) -> int | None:
        found = self.counted()
        return found if found > than else None

    def handovers(self) -> list[str]:
        """Who took over from whom, as the log says it. Prometheus begins."""
        log = (self.gateway.home / "logs" / "control.log").read_text()
        return [line for line in log.splitlines() if "evidence comes from" in line]

    def by_own(self) -> bool:
        return bool(self.handovers()) and "own scraper" in self.handovers()[-1]

    def fed_by_prometheus(self) -> int | None:
        """A few seconds' requests became evidence while nobody took over from Prometheus."""
        before, begun = self.handovers(), self.counted()
        if self.by_own():
            return None
        found = eventually("there is more evidence", lambda: self.more(than=begun + 3 * RATE), 60)
        return found if self.handovers() == before else None

    def gaps(self) -> dict[str, float]:
        text = call(f"{self.gateway.admin}/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith("teal_rollout_evidence_gaps_total{")]
        return {kind: sum(float(x.split()[-1]) for x in lines if f'"{kind}"' in x) for kind in GapKind}


@pytest.fixture
def asking(seed_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    gateway = Gateway(copied(seed_home, tmp_path))
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with ExitStack() as stop:
        prom = stop.enter_context(prometheus(folder, gateway.admin_port))
        monkeypatch.setenv("TEAL_PROMETHEUS_URL", prom.url)
        try:
            gateway.start()
            yield Asking(gateway, prom, stop)
        finally:
            end_all(gateway)


def test_a_rollout_is_fed_by_prometheus_and_by_the_own_scraper_once_that_is_gone(
    asking: Asking, images: np.ndarray, tmp_path: Path
) -> None:
    gateway = asking.gateway
    gateway.must("deploy", "digits", "1", "--wait")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    load = Load(f"{gateway.url}/v1/models/digits:predict", RATE, 120, bodies=(body,))
    with load_in_thread(load) as outcomes:
        gateway.must("deploy", "digits", "2", "--plan", str(plan), "--override")
        asking.prometheus.until(
            'envoy_cluster_upstream_rq_completed{kind="predict"} > 0', lambda found: len(found) == 2
        )
        first = eventually("Prometheus' counts are evidence", asking.fed_by_prometheus, 60)
        assert asking.gaps()[GapKind.MISMATCH] == 0

        asking.stop.close()
        eventually("the own scraper takes over", asking.by_own, 60)
        second = eventually("its counts are evidence", lambda: asking.more(than=first + 5 * RATE), 60)
        assert gateway.status()["rollout"]["state"] == "canary"
        gateway.must("abort", "digits")
    (outcome,) = outcomes.result()
    assert second <= outcome.sent, "no request counts twice"
