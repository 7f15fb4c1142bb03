"""Rows O1-O3: more than can be done. Who is admitted is answered rightly, the rest at once, and it all passes.

How much is still done under overload is measured in loadtests/overload_bench.py; here nothing is judged by the clock
but what would be a hang.
"""

import json
import statistics
import time

import pytest

from loadtests.load import Load, Sample
from loadtests.openloop import load_in_thread
from tests.battery import models
from tests.battery.vitals import Watch, total
from tests.e2e.gateway import Gateway, eventually

pytestmark = pytest.mark.e2e

ROWS = 8
IMAGE = models.rows(*range(ROWS))
BODY = json.dumps({"instances": IMAGE.tolist()}).encode()
SECONDS = 6.0
PATIENCE_MS = 500  # of each caller; far below what the queue would take without refusals


def capacity(watch: Watch) -> float:
    """Requests per second that `slow` can do, as its own counters say it."""
    body = json.dumps({"instances": models.rows(*range(64)).tolist()}).encode()
    before = watch.gateway.worker_metrics(slow(watch.gateway))
    for _ in range(3):
        assert watch.predict(body, "slow").status == 200
    now = watch.gateway.worker_metrics(slow(watch.gateway))
    seconds, count = (
        total(now, f"teal_batch_{what}_sum") - total(before, f"teal_batch_{what}_sum")
        for what in ("compute_seconds", "rows")
    )
    return count / seconds / ROWS


def slow(gateway: Gateway) -> str:
    return str(next(w["id"] for w in gateway.workers() if w["id"].startswith("slow-")))


def flooded(watch: Watch, times: float, retries: int = 0) -> list[Sample]:
    """Everybody's answers under so many times the capacity. A retry is sent at once, as impatient clients do."""
    rate = times * capacity(watch)
    one = Load(
        f"{watch.gateway.url}/v1/models/slow:predict",
        rate,
        SECONDS,
        body=BODY,
        headers=(("x-teal-timeout-ms", str(PATIENCE_MS)),),
        connections=512,
        poisson=True,
        keep_bodies=True,
    )
    with load_in_thread(*[one] * (1 + retries)) as outcomes:
        pass_by(SECONDS)
    return [sample for outcome in outcomes.result() for sample in outcome.samples]


def pass_by(seconds: float) -> None:
    """The load runs for this long: the scenario, not a wait for an event."""
    time.sleep(seconds)


@pytest.mark.parametrize("times", [2.0, 10.0])
def test_o1_o2_under_a_flood_the_admitted_are_answered_rightly_and_the_rest_told_at_once(
    watch: Watch, times: float
) -> None:
    samples = flooded(watch, times)
    answered = [s for s in samples if s.ok]
    refused = [s for s in samples if s.status == 503]
    assert {s.status for s in samples} <= {200, 503, 504}, {s.failure or s.status for s in samples}
    assert answered
    assert refused
    assert all(models.right(json.loads(s.body)["predictions"], IMAGE) for s in answered)
    waits = sorted(s.done - s.sent for s in refused)
    print(f"{times:g}x: {len(answered)} answered, {len(refused)} refused in {statistics.median(waits) * 1e3:.1f} ms")
    assert statistics.median(waits) < PATIENCE_MS / 1e3 / 2, "a refusal does not wait for its turn"


def test_o1_a_refusal_says_when_to_come_back(watch: Watch) -> None:
    with load_in_thread(
        Load(f"{watch.gateway.url}/v1/models/slow:predict", 5 * capacity(watch), 60, body=BODY, connections=512,
             headers=(("x-teal-timeout-ms", str(PATIENCE_MS)),))
    ):  # fmt: skip

        def refusal() -> bool:
            answer = watch.predict(BODY, "slow", x_teal_timeout_ms=str(PATIENCE_MS))
            if answer.status != 503:
                return False
            assert int(answer.headers["retry-after"]) >= 1
            assert "queue" in answer.json["error"]
            return True

        eventually("somebody is refused", refusal, 20)


def test_o3_after_a_storm_of_retries_everything_is_as_before(watch: Watch) -> None:
    """Three times as many because everybody tries three times: Envoy adds nothing to it, and it ends when they do."""
    before = total(watch.gateway.envoy_metrics(), "envoy_cluster_upstream_rq_retry", '"slow"')
    samples = flooded(watch, 2.0, retries=2)
    retried = total(watch.gateway.envoy_metrics(), "envoy_cluster_upstream_rq_retry", '"slow"') - before
    assert retried <= 0.2 * len(samples)
    calm = 0.5 * capacity(watch)
    with load_in_thread(Load(f"{watch.gateway.url}/v1/models/slow:predict", calm, 3, body=BODY)) as outcomes:
        pass_by(3)
    (outcome,) = outcomes.result()
    assert outcome.failures == {}
