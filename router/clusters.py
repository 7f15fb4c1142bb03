"""One backend as Envoy's cluster and its endpoints. Pure; what is the same for all clusters is built once.

Clusters are never edited (router/naming.py); endpoints are, each time a worker comes or goes.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, Pipe, SocketAddress
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from contracts.errors import InvalidInput
from contracts.limits import Limits
from contracts.worker import PATH_READY
from router.naming import MIRROR, PINNED, PREDICT, cluster_name
from router.table import Backend, ModelRoutes

_NAME = Cluster.NAME_FIELD_NUMBER
_EDS = Cluster.EDS_CLUSTER_CONFIG_FIELD_NUMBER
_SERVICE = Cluster.EdsClusterConfig.SERVICE_NAME_FIELD_NUMBER
_ASSIGNED = ClusterLoadAssignment.CLUSTER_NAME_FIELD_NUMBER

# json_format finds the message behind an "@type" only among the loaded ones.
HTTP_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR.full_name

UPSTREAM_IDLE_SECONDS = 60  # below the worker's own 75 s, so that it is never the worker who hangs up on a request
BUFFER_BYTES = 32 * 1024
CONCURRENT = 4096  # of connections, of requests, of waiting requests: either place can carry all traffic
# Copies under way: a candidate too slow for its share of copies gets fewer, rather than holding their bodies in memory.
MIRRORED = 64

# Retries at once that are always allowed; above it, 20 % of what is under way. One worker of two that dies takes half
# of all requests under way with it, and each of them deserves its second try: Envoy's own floor of 3 failed the rest.
# A storm it is not, since each request is tried again once and only because its worker died or refused.
RETRY_FLOOR = 256


class Settings(NamedTuple):
    """What all clusters of a kind have in common: serialized, and four letters that stand for it."""

    body: bytes
    digest: str


@lru_cache(maxsize=16)
def settings(kind: str, limits: Limits) -> Settings:
    made = json_format.ParseDict(_settings(MIRRORED if kind == MIRROR else CONCURRENT, limits), Cluster())
    body = bytes(made.SerializeToString(deterministic=True))
    return Settings(body, sha256(body).hexdigest()[:4])


def clusters_of(routes: ModelRoutes) -> Iterator[tuple[str, Backend]]:
    """The kind and the backend of every cluster of a model. Only where there are two versions to compare, requests
    that name one of them need a cluster of their own (docs/decisions/0015)."""
    for backend in routes.backends:
        yield PREDICT, backend
        if len(routes.backends) > 1:
            yield PINNED, backend
        if routes.mirror is not None and routes.mirror.color is backend.color:
            yield MIRROR, backend


def name_of(kind: str, routes: ModelRoutes, backend: Backend, limits: Limits) -> str:
    return cluster_name(kind, routes.model, backend, settings(kind, limits).digest)


# Forty thousand of each are made at once, so their few own fields are written by hand. Serialized messages that follow
# each other are one message with the fields of both.


def cluster(name: str, common: Settings) -> bytes:
    """An Envoy Cluster, serialized, that gets its endpoints over ADS under the same name."""
    text = name.encode()
    return b"".join((common.body, _field(_NAME, text), _field(_EDS, _field(_SERVICE, text))))


def assignment(name: str, endpoints: tuple[str, ...]) -> bytes:
    """The endpoints of a cluster, serialized: Unix socket paths or "host:port". Raises InvalidInput for anything else.
    All clusters of a version have the same."""
    return _field(_ASSIGNED, name.encode()) + _hosts(endpoints)


def _field(number: int, body: bytes) -> bytes:
    """A field with a text or a message of less than 16 KiB."""
    size = len(body)
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + body


@lru_cache(maxsize=40_000)
def _hosts(endpoints: tuple[str, ...]) -> bytes:
    hosts = [LbEndpoint(endpoint=Endpoint(address=address(e))) for e in sorted(set(endpoints))]
    everywhere = [LocalityLbEndpoints(lb_endpoints=hosts)] if hosts else []
    return bytes(ClusterLoadAssignment(endpoints=everywhere).SerializeToString(deterministic=True))


def address(endpoint: str) -> Any:
    if endpoint.startswith("/"):
        return Address(pipe=Pipe(path=endpoint))
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidInput(f"endpoint {endpoint!r}: expected an absolute Unix socket path or host:port")
    return Address(socket_address=SocketAddress(address=host.strip("[]"), port_value=int(port)))


def _settings(at_once: int, limits: Limits) -> dict[str, Any]:
    return {
        "type": "EDS",
        # Without a time limit on the first fetch: a cluster that is not yet told its endpoints stays "warming".
        "eds_cluster_config": {
            "eds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": _seconds(limits.connect_seconds),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "common_lb_config": {
            # An unhealthy version must fail at once, not be sprayed with requests because "most hosts are down".
            "healthy_panic_threshold": {"value": 0},
            # Health changes count at once; the default gathers them for a second.
            "update_merge_window": "0s",
            "ignore_new_hosts_until_first_hc": True,
        },
        "health_checks": [_health_check()],
        # A worker that left the table takes nothing new, even while it still answers health checks.
        "ignore_health_on_host_removal": True,
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    "max_connections": at_once,
                    "max_pending_requests": at_once,
                    "max_requests": at_once,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": RETRY_FLOOR},
                    "track_remaining": True,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": _seconds(UPSTREAM_IDLE_SECONDS)},
                # A gRPC answer ends with trailers, which HTTP/1.1 has and nobody else uses.
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
            }
        },
    }


def _health_check() -> dict[str, Any]:
    """Two misses take a worker out, one answer brings it back; an answer other than 200 takes it out at once.

    The time-out is far above the interval because a worker that computes on two busy cores is slow, not dead; a dead
    one refuses the connection and needs no time-out.
    """
    return {
        "timeout": "2s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"host": "worker", "path": PATH_READY},
    }


def _outlier_detection() -> dict[str, Any]:
    """Only failures to reach a worker eject it, never what it answered: 503 is its way to say it is full, and 500 is
    evidence about the version that ejection would hide.

    At most half of the workers are out, so the only worker of a version never is, and one of two can be.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "30s",
        "max_ejection_percent": 50,
        "always_eject_one_host": False,
    }


def _seconds(value: float) -> str:
    return f"{value:g}s"
