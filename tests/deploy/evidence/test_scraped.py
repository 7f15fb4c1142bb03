import pytest

from contracts.metrics import LATENCY_SECONDS
from deploy.evidence.blocks import Arm
from deploy.evidence.counters import Fact, Series, counted, grown
from deploy.evidence.scraped import ENVOY, envoy_samples, joined, worker_samples

WHO = 'kind="predict",model="digits.v2",version="2",color="green",envoy_cluster_name="predict|0a-5a|digits.v2|2|green"'
ENVOY_TEXT = f"""# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{{{WHO}}} 21
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",{WHO}}} 17
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="4",{WHO}}} 1
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",{WHO}}} 3
envoy_cluster_upstream_rq_retry_success{{{WHO}}} 2
envoy_cluster_upstream_rq_active{{{WHO}}} 5
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="0.25"}} 4
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="30000"}} 21
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="+Inf"}} 21
envoy_cluster_upstream_rq_time_sum{{{WHO}}} 80.5
envoy_cluster_upstream_rq_time_count{{{WHO}}} 21
envoy_cluster_upstream_rq_completed{{{WHO.replace("predict", "pinned")}}} 1000
envoy_server_uptime{{}} 12
"""
VERSION = ("digits.v2", 2)


def test_what_envoy_exports_becomes_facts_of_the_version():
    sample = envoy_samples(ENVOY_TEXT, "predict")[VERSION]
    assert sample[Series(Fact.ANSWERED, ENVOY)] == 21
    both = counted(grown({}, sample), {}, len(LATENCY_SECONDS))
    assert both.errors.live == Arm(20, 5)
    assert both.slower[0].live == Arm(21, 17)
    assert both.slower[-1].live == Arm(21, 0)


def test_requests_pinned_to_a_version_are_no_evidence():
    assert envoy_samples(ENVOY_TEXT, "predict")[VERSION][Series(Fact.ANSWERED, ENVOY)] == 21
    assert envoy_samples(ENVOY_TEXT, "pinned")[VERSION][Series(Fact.ANSWERED, ENVOY)] == 1000


def test_runs_of_each_worker_are_kept_apart_and_failed_ones_are_runs_too():
    who = 'model="digits.v2",version="2",color="green"'
    text = f'teal_batches_total{{{who},outcome="ok"}} 90.0\nteal_batches_total{{{who},outcome="failed"}} 3.0\n'
    whole = joined(worker_samples(text, "a"), worker_samples(text, "b"), envoy_samples(ENVOY_TEXT, "predict"))[VERSION]
    assert whole[Series(Fact.BATCHES, "a")] == 93
    assert counted(grown({}, whole), {}, len(LATENCY_SECONDS)).batches.live == Arm(186, 6)


@pytest.mark.parametrize(
    "text", ["", "<html>502</html>", "envoy_cluster_upstream_rq_completed 5", "teal_batches_total{"]
)
def test_a_text_that_holds_nothing_of_ours_is_nothing_and_no_zero(text):
    assert envoy_samples(text, "predict") == worker_samples(text, "a") == {}
