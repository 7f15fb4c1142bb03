"""Names of Envoy's clusters, and how Envoy reads model, version and color back out of them for its statistics.

A cluster's name is its whole identity: what it is for, which version, which package, and the settings it was made
with. So a cluster never changes: other settings make another cluster, which is warmed before anything moves to it.
"""

from collections.abc import Iterable

from router.table import Backend

# What a cluster is for. Each has its own statistics and limits, so that what the split sends can be told from the rest.
PREDICT = "predict"  # requests of the split: evidence
PINNED = "pinned"  # requests that name a version, and questions about the model, while a split divides the others
MIRROR = "mirror"  # copies of requests, for nobody
KINDS = (PREDICT, PINNED, MIRROR)
SEPARATOR = "|"  # no model name holds one, and Envoy leaves it alone in names of statistics

DIGEST_LETTERS = 12

# The clusters that are part of Envoy's start (router/bootstrap.py), and not of a table.
CONTROL_PLANE = "control_plane"  # ADS
REFLECTION = "reflection"  # the same socket, for callers
# Envoy itself, twice round: where a gRPC call becomes HTTP and its answer gRPC, and where that HTTP is answered.
BRIDGE = "bridge"
ANSWERS = "answers"
STATIC = frozenset({CONTROL_PLANE, REFLECTION, BRIDGE, ANSWERS})

# What each part of a name looks like in a statistic's name, by the label it becomes.
PARTS = {"kind": "[a-z]+", "package": "[^|]+", "model": "[^|]+", "version": r"\d+", "color": "[a-z]+"}
LABELS = ("kind", "model", "version", "color")
# What Envoy would count of a cluster and nobody here reads: features that are off, and what another number says, too.
# More than half of all it counts; and to take labels out of a statistic's name is most of what a new cluster costs.
UNCOUNTED = {
    "": "bind_errors original_dst_host_invalid max_host_weight membership_degraded membership_excluded "
    "default.total_match_count assignment_stale assignment_timeout_received assignment_use_cached "
    "upstream_http3_broken",
    "lb_": "healthy_panic local_cluster_not_ok recalculate_zone_structures subsets_active subsets_created "
    "subsets_fallback subsets_fallback_panic subsets_removed subsets_selected zone_cluster_too_small "
    "zone_no_capacity_left zone_routing_all_directly zone_routing_cross_zone zone_routing_sampled",
    "circuit_breakers.": "default.cx_pool_open default.remaining_cx_pools high.cx_open high.cx_pool_open high.rq_open "
    "high.rq_pending_open high.rq_retry_open",
    "health_check.": "degraded passive_failure verify_cluster",
    "http1.": "dropped_headers_with_underscores metadata_not_supported_error response_flood "
    "requests_rejected_with_underscores_in_headers",
    "outlier_detection.ejections_": "consecutive_5xx detected_consecutive_5xx detected_consecutive_gateway_failure "
    "detected_degradation detected_failure_percentage detected_local_origin_failure_percentage "
    "detected_local_origin_success_rate detected_success_rate enforced_consecutive_5xx "
    "enforced_consecutive_gateway_failure enforced_failure_percentage enforced_local_origin_failure_percentage "
    "enforced_local_origin_success_rate enforced_success_rate success_rate total",
    "upstream_cx_": "close_notify connect_attempts_exceeded connect_with_0_rtt destroy_local destroy_remote "
    "http1_total http2_total http3_total length_ms max_duration_reached max_requests pool_overflow preconnect_skipped "
    "rx_bytes_buffered rx_bytes_total tx_bytes_buffered tx_bytes_total",
    "upstream_flow_control_": "backed_up_total drained_total paused_reading_total resumed_reading_total",
    "upstream_internal_redirect_": "failed_total succeeded_total",
    "upstream_rq_": "0rtt maintenance_mode max_duration_reached pending_failure_eject per_cx per_try_idle_timeout "
    "per_try_timeout retry_backoff_exponential retry_backoff_ratelimited rx_reset_no_error",
}
# With use_all_default_tags off, the wanted ones of Envoy's own tags are named.
DEFAULT_TAGS = (
    "envoy.cluster_name",
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.http_conn_manager_prefix",
    "envoy.listener_address",
    "envoy.worker_id",
)


def cluster_name(kind: str, model: str, backend: Backend, settings: str) -> str:
    """`predict|0a1b2c3d4e5f-9f3a|digits|2|green`: kind, package digest and settings digest, model, version, color."""
    parts = (kind, f"{package_of(backend)}-{settings}", model, str(backend.version), backend.color.value)
    return SEPARATOR.join(parts)


def split_name(model: str, backends: Iterable[Backend]) -> str:
    """What Envoy's runtime calls the split between these backends. Another pair has another name, so that weights which
    are still there for the one mean nothing for the other."""
    return SEPARATOR.join(("split", *(f"{package_of(b)}-{b.version}" for b in backends), model))


def package_of(backend: Backend) -> str:
    """What of a package's digest is in names."""
    return backend.digest.removeprefix("sha256:")[:DIGEST_LETTERS]


def place_of(name: str) -> tuple[str, str]:
    """Kind and color of a cluster, which are its own among the clusters of its model."""
    return kind_of(name), name.rsplit(SEPARATOR, 1)[1]


def kind_of(name: str) -> str:
    """What a cluster is for."""
    return name.split(SEPARATOR, 1)[0]


def version_of(name: str) -> str:
    """The version a cluster's name stands for, as an operator says it: "digits version 2 (green)"."""
    _, _, model, version, color = name.split(SEPARATOR)
    return f"{model} version {version} ({color})"


def stats_tags() -> list[dict[str, str]]:
    """Envoy's stats_tags: the whole name leaves the statistic's name and comes back as labels, so that
    `cluster.predict|…|digits.v2|2|green.upstream_rq_total` is `envoy_cluster_upstream_rq_total{model="digits.v2",…}`.

    In each pattern the outer group is what is cut out of the name (the same for all), the inner group the label's
    value. Envoy's own tag for cluster names ends at the first dot, which model names may hold; the package stands
    before the model so that this label, too, differs between any two clusters. Envoy runs every pattern over every
    statistic of every new cluster, which is most of what a new cluster costs: so there are no more than needed.
    """
    tags = []
    for label in LABELS:
        pattern = r"\|".join(f"({part})" if name == label else part for name, part in PARTS.items())
        tags.append({"tag_name": label, "regex": rf"^cluster\.({pattern}\.)"})
    tags += [{"tag_name": name} for name in DEFAULT_TAGS]
    return tags


def uncounted() -> list[dict[str, str]]:
    """Envoy's patterns for UNCOUNTED. By how a statistic's name ends: what a model is called stands before that."""
    return [{"suffix": f".{group}{name}"} for group, names in UNCOUNTED.items() for name in names.split()]
