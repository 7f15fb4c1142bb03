"""The configuration Envoy starts with: every limit is in it, and Envoy itself finds it valid."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf import json_format

from contracts.limits import LIMITS, Limits
from contracts.metrics import LATENCY_SECONDS
from contracts.names import Color
from contracts.worker import PATH_READY
from router import bootstrap, clusters
from router.bootstrap import EnvoyConfig, threads_for
from router.naming import KINDS, PREDICT, cluster_name, stats_tags
from router.route_table import assemble
from tests.router.gateway import backend


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_envoy_leaves_half_of_the_cores_to_the_models(cores: int, threads: int) -> None:
    assert threads_for(cores) == threads


CONFIG = EnvoyConfig("127.0.0.1", 8080, "/run/admin.sock", "/run/xds.sock", concurrency=2)


def manager(config: EnvoyConfig = CONFIG) -> dict[str, Any]:
    listener, *_ = bootstrap.render(config)["static_resources"]["listeners"]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def test_envoy_finds_the_bootstrap_valid(tmp_path: Path) -> None:
    path = tmp_path / "envoy.json"
    bootstrap.write(CONFIG, path)
    said = subprocess.run(
        [*bootstrap.argv(CONFIG, path), "--mode", "validate"], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_every_limit_of_the_predictions_port_is_in_the_configuration() -> None:
    limits = Limits(headers=77, header_bytes=16 * 1024, header_seconds=3, idle_seconds=44, request_seconds=22)
    made = manager(replace(CONFIG, limits=limits))
    assert made["common_http_protocol_options"] == {
        "idle_timeout": "44s",
        "max_headers_count": 77,
        "headers_with_underscores_action": "REJECT_REQUEST",
    }
    assert made["max_request_headers_kb"] == 16
    assert made["request_headers_timeout"] == "3s"
    assert made["request_timeout"] == "22s"
    assert made["stream_idle_timeout"] == "44s"
    assert made["http2_protocol_options"] == {
        "max_concurrent_streams": 100,
        "initial_stream_window_size": 256 * 1024,
        "initial_connection_window_size": 1024 * 1024,
    }
    listener, *_ = bootstrap.render(CONFIG)["static_resources"]["listeners"]
    assert listener["per_connection_buffer_limit_bytes"] == 32 * 1024


def test_nobody_in_front_is_trusted_and_paths_are_made_plain() -> None:
    made = manager()
    assert made["use_remote_address"]
    assert (made["normalize_path"], made["merge_slashes"]) == (True, True)
    assert made["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert made["codec_type"] == "AUTO"
    assert (made["server_name"], made["server_header_transformation"]) == ("teal", "OVERWRITE")
    assert all(made[f"{what}_request_id"] for what in ("generate", "preserve_external"))
    assert made["always_set_request_id_in_response"]


def test_connections_and_memory_are_bounded_and_the_admin_is_not_locked_out() -> None:
    made = bootstrap.render(replace(CONFIG, max_connections=5, heap_bytes=6))
    heap, connections = made["overload_manager"]["resource_monitors"]
    assert heap["typed_config"]["max_heap_size_bytes"] == 6
    assert connections["typed_config"]["max_active_downstream_connections"] == 5
    actions = [a["name"].rsplit(".", 1)[1] for a in made["overload_manager"]["actions"]]
    assert actions == [
        "reset_high_memory_stream", "shrink_heap", "disable_http_keepalive", "stop_accepting_requests",
        "stop_accepting_connections",
    ]  # fmt: skip
    assert made["admin"]["ignore_global_conn_limit"]
    assert made["admin"]["address"] == {"pipe": {"path": "/run/admin.sock", "mode": 0o600}}


def test_a_restarted_control_plane_is_looked_for_within_a_second_and_nothing_expires() -> None:
    made = bootstrap.render(CONFIG)
    (service,) = made["dynamic_resources"]["ads_config"]["grpc_services"]
    back_off = service["envoy_grpc"]["retry_policy"]["retry_back_off"]
    assert back_off == {"base_interval": "0.1s", "max_interval": "1s"}
    assert made["dynamic_resources"]["ads_config"]["api_type"] == "DELTA_GRPC"
    assert made["dynamic_resources"]["cds_config"]["initial_fetch_timeout"] == "0s"
    assert manager()["rds"]["config_source"]["initial_fetch_timeout"] == "0s"


def test_every_limit_of_a_cluster_is_in_it() -> None:
    made = json_format.MessageToDict(
        Cluster.FromString(clusters.cluster("c", clusters.settings(PREDICT, LIMITS))), preserving_proto_field_name=True
    )
    assert made["connect_timeout"] == f"{LIMITS.connect_seconds:.3f}s"
    assert made["lb_policy"] == "LEAST_REQUEST"
    assert made["ignore_health_on_host_removal"] is True
    (threshold,) = made["circuit_breakers"]["thresholds"]
    assert {threshold[f"max_{what}"] for what in ("connections", "pending_requests", "requests")} == {4096}
    assert threshold["retry_budget"] == {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 256}
    (check,) = made["health_checks"]
    assert (check["interval"], check["no_traffic_interval"]) == ("0.500s", "0.500s")
    assert (check["unhealthy_threshold"], check["healthy_threshold"]) == (2, 1)
    assert check["http_health_check"]["path"] == PATH_READY
    assert made["common_lb_config"]["healthy_panic_threshold"] == {}  # a percentage of 0
    assert made["common_lb_config"]["update_merge_window"] == "0s"
    assert made["common_lb_config"]["ignore_new_hosts_until_first_hc"] is True
    assert made["outlier_detection"]["max_ejection_percent"] == 50
    assert made["outlier_detection"]["always_eject_one_host"] is False
    assert made["outlier_detection"]["enforcing_consecutive_5xx"] == 0
    (options,) = made["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"idle_timeout": "60s"}


def test_a_retry_happens_once_elsewhere_and_never_for_a_status() -> None:
    made = json_format.MessageToDict(assemble((), True, "m"), preserving_proto_field_name=True)
    (host,) = made["virtual_hosts"]
    retry = host["retry_policy"]
    assert retry["retry_on"] == "connect-failure,refused-stream,reset,reset-before-request"
    assert retry["num_retries"] == 1
    assert [p["name"] for p in retry["retry_host_predicate"]] == ["envoy.retry_host_predicates.previous_hosts"]
    assert "retriable_status_codes" not in retry
    assert made["validate_clusters"] is True


def test_latency_buckets_are_those_of_our_own_metrics_in_milliseconds() -> None:
    (setting,) = bootstrap.render(CONFIG)["stats_config"]["histogram_bucket_settings"]
    assert setting["buckets"] == pytest.approx([s * 1000 for s in LATENCY_SECONDS])


@pytest.mark.parametrize("model", ["digits", "digits.v2", "a-b_c.d", "_x"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clusters_name_comes_back_as_labels(kind: str, model: str) -> None:
    name = cluster_name(kind, model, backend(12, Color.GREEN), "9f3a")
    wanted = {"kind": kind, "model": model, "version": "12", "color": "green"}
    for tag in (t for t in stats_tags() if t["tag_name"] in wanted):
        found = re.match(tag["regex"], f"cluster.{name}.upstream_rq_total")
        assert found is not None
        assert (found[1], found[2]) == (f"{name}.", wanted[tag["tag_name"]])


def test_the_digest_tells_configurations_apart_and_stands_in_them() -> None:
    assert bootstrap.digest(CONFIG) == bootstrap.digest(replace(CONFIG))
    others = [replace(CONFIG, port=8081), replace(CONFIG, concurrency=3), replace(CONFIG, limits=Limits(headers=5))]
    assert len({bootstrap.digest(c) for c in [CONFIG, *others]}) == 4
    assert bootstrap.render(CONFIG)["node"]["metadata"] == {"bootstrap": bootstrap.digest(CONFIG)}
    json.dumps(bootstrap.render(CONFIG))


def test_two_gateways_on_one_machine_share_nothing() -> None:
    assert "--disable-hot-restart" in bootstrap.argv(CONFIG, Path("/x"))
