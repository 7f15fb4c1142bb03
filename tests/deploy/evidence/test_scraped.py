import pytest

from contracts.metrics import PREDICTION_BIN_COUNT
from deploy.evidence.counters import Fact, Kind, Series, Source
from deploy.evidence.scraped import ENVOY, envoy_told, worker_told

VERSION = ("digits.v2", 2)
CLUSTER = "predict|0a-5a|digits.v2|2|green"
WHO = f'kind="predict",model="digits.v2",version="2",color="green",envoy_cluster_name="{CLUSTER}"'
ENVOY_TEXT = f"""# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{{{WHO}}} 21
envoy_cluster_external_upstream_rq_completed{{{WHO}}} 20
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",{WHO}}} 17
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="4",{WHO}}} 1
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",{WHO}}} 3
envoy_cluster_upstream_rq_retry_success{{{WHO}}} 2
envoy_cluster_upstream_rq_timeout{{{WHO}}} 1
envoy_cluster_upstream_cx_destroy_local_with_active_rq{{{WHO}}} 4
envoy_cluster_upstream_rq_active{{{WHO}}} 5
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="0.25"}} 4
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="30000"}} 21
envoy_cluster_upstream_rq_time_bucket{{{WHO},le="+Inf"}} 21
envoy_cluster_upstream_rq_time_sum{{{WHO}}} 80.5
envoy_cluster_upstream_rq_time_count{{{WHO}}} 21
envoy_cluster_upstream_rq_total{{{WHO}}} 23
envoy_cluster_upstream_rq_completed{{{WHO.replace("predict", "mirror")}}} 300
envoy_cluster_upstream_rq_total{{{WHO.replace("predict", "pinned")}}} 1000
envoy_cluster_upstream_rq_completed{{{WHO.replace("predict", "pinned")}}} 1000
envoy_server_uptime{{}} 12
"""
HER = 'model="digits.v2",version="2",color="green"'
WORKER_TEXT = f"""process_start_time_seconds 1.79524e+09
teal_batches_total{{{HER},outcome="ok"}} 90.0
teal_batches_total{{{HER},outcome="failed"}} 3.0
teal_requests_total{{{HER},outcome="ok"}} 40.0
teal_requests_total{{{HER},outcome="cancelled"}} 2.0
teal_prediction_bin_total{{{HER},bin="0"}} 7.0
teal_prediction_bin_total{{{HER},bin="{PREDICTION_BIN_COUNT}"}} 9.0
"""


def of(fact: Fact, bound: int = -1, cluster: str = CLUSTER) -> Series:
    return Series(fact, bound, cluster)


def test_what_envoy_exports_becomes_facts_of_the_version():
    found = envoy_told(ENVOY_TEXT, 5.0, [VERSION])[VERSION][Source(Kind.SPLIT, ENVOY)]
    assert (found.at, found.life) == (5.0, 12.0)
    assert found.counts == {
        of(Fact.ANSWERED): 21, of(Fact.REFUSED): 1, of(Fact.FAILED): 3, of(Fact.SAVED): 2, of(Fact.TIMED_OUT): 1,
        of(Fact.CUT): 4, of(Fact.SENT): 23, of(Fact.WITHIN, 0): 4, of(Fact.WITHIN, 22): 21, of(Fact.TIMED): 21,
    }  # fmt: skip


def test_mirrored_and_pinned_requests_are_kept_apart_from_those_that_the_weights_sent():
    found = envoy_told(ENVOY_TEXT, 5.0, [VERSION])[VERSION]
    mirrored, pinned = CLUSTER.replace("predict", "mirror"), CLUSTER.replace("predict", "pinned")
    assert found[Source(Kind.MIRROR, ENVOY)].counts == {of(Fact.ANSWERED, cluster=mirrored): 300}
    assert found[Source(Kind.PINNED, ENVOY)].counts == {of(Fact.SENT, cluster=pinned): 1000}


def test_a_version_that_envoy_does_not_mention_has_counted_nothing_yet():
    found = envoy_told(ENVOY_TEXT, 5.0, [("other", 1)])[("other", 1)][Source(Kind.SPLIT, ENVOY)]
    assert (found.life, found.counts) == (12.0, {})


def test_runs_that_failed_are_runs_too_and_a_bin_beyond_the_last_is_none():
    found = worker_told(WORKER_TEXT, 5.0)
    assert found.life == -1.79524e9
    assert found.counts == {
        Series(Fact.BATCHES): 93,
        Series(Fact.BATCHES_FAILED): 3,
        Series(Fact.PREDICTIONS): 42,
        Series(Fact.PREDICTED, 0): 7,
    }


def test_a_value_that_is_no_number_stays_one_for_the_weighing_to_refuse():
    found = worker_told(f'teal_batches_total{{{HER},outcome="ok"}} many\n', 5.0)
    assert str(found.counts[Series(Fact.BATCHES)]) == "nan"


@pytest.mark.parametrize(
    "text", ["", "<html>502</html>", "envoy_cluster_upstream_rq_completed 5", "teal_batches_total{", "\x00" * 9]
)
def test_a_text_that_holds_nothing_of_ours_is_nothing_and_no_zero(text):
    assert worker_told(text, 5.0) is None
    assert not any(told.counts for told in envoy_told(text, 5.0, [VERSION])[VERSION].values())
