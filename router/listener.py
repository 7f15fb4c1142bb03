"""The predictions port: HTTP/1.1 and HTTP/2 on one listener, with every limit on what strangers send; and the two
listeners on which Envoy hears itself, to answer gRPC calls that need no worker (router/rpc.py says how).

Static on purpose: a changed listener drains its connections, so no rollout ever touches it. Routes come over ADS.
"""

from typing import Any

from contracts.limits import Limits
from contracts.names import HEADER_COLOR, HEADER_MIRRORED, HEADER_MODEL, HEADER_VERSION
from router.local_replies import local_replies
from router.naming import ANSWERS, BRIDGE
from router.rpc import BUFFER, HEADER_ANSWER, HTTP2, ONLY_HTTP2, PLAIN_TYPE, READER, lua

ROUTES = "teal"  # the name of the one route configuration
STAT_PREFIX = "predictions"
BUFFER_BYTES = 32 * 1024  # per connection and direction; Envoy's advice for ports that face strangers
STREAMS_PER_CONNECTION = 100
STREAM_WINDOW = 256 * 1024  # HTTP/2: large enough that a body of megabytes is not a conversation
CONNECTION_WINDOW = 1024 * 1024

OURS = (HEADER_MODEL, HEADER_VERSION, HEADER_COLOR, HEADER_ANSWER, HEADER_MIRRORED)  # not for callers to set

_TYPE = "type.googleapis.com/envoy.extensions."
_MANAGER = _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager"
_REQUEST_ID = _TYPE + "request_id.uuid.v3.UuidRequestIdConfig"
_LUA = _TYPE + "filters.http.lua.v3.Lua"
_BUFFER = _TYPE + "filters.http.buffer.v3.Buffer"
_BRIDGE_FILTER = _TYPE + "filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"
_EARLY = _TYPE + "http.early_header_mutation.header_mutation.v3.HeaderMutation"

_LAST = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": _TYPE + "filters.http.router.v3.Router"},
}


def listener(host: str, port: int, limits: Limits) -> dict[str, Any]:
    return {
        "name": "predictions",
        "stat_prefix": STAT_PREFIX,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "tcp_backlog_size": 1024,
        "filter_chains": [{"filters": [_filter(_manager(limits))]}],
    }


def inner_listeners() -> list[dict[str, Any]]:
    """Reached from inside Envoy only."""
    takes_out_of_frames = {
        "name": "envoy.filters.http.grpc_http1_reverse_bridge",
        "typed_config": {"@type": _BRIDGE_FILTER, "content_type": PLAIN_TYPE, "withhold_grpc_frames": True},
    }
    onward = {"match": {"prefix": "/"}, "route": {"cluster": ANSWERS}}
    everything = {"name": BRIDGE, "virtual_hosts": [{"name": BRIDGE, "domains": ["*"], "routes": [onward]}]}
    return [
        _inner_listener(BRIDGE, {"route_config": everything, "http_filters": [takes_out_of_frames, _LAST]}),
        _inner_listener(ANSWERS, {"rds": _routes(), "http_filters": [_LAST]}),
    ]


def _inner_listener(name: str, more: dict[str, Any]) -> dict[str, Any]:
    manager = {"@type": _MANAGER, "stat_prefix": name, **more}
    return {
        "name": name,
        "stat_prefix": name,
        "internal_listener": {},
        "filter_chains": [{"filters": [_filter(manager)]}],
    }


def _filter(manager: dict[str, Any]) -> dict[str, Any]:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _routes() -> dict[str, Any]:
    return {
        "route_config_name": ROUTES,
        # No time limit: a port that is open and knows no model would answer 404 for all of them.
        "config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
    }


def _manager(limits: Limits) -> dict[str, Any]:
    return {
        "@type": _MANAGER,
        "stat_prefix": STAT_PREFIX,
        "codec_type": "AUTO",
        "rds": _routes(),
        "http_filters": [
            # Off, unless a route switches them on: requests of REST enter none.
            {
                "name": HTTP2,
                "disabled": True,
                "typed_config": {"@type": _LUA, "default_source_code": {"inline_string": ONLY_HTTP2}},
            },
            {
                "name": BUFFER,
                "disabled": True,
                "typed_config": {"@type": _BUFFER, "max_request_bytes": limits.binary_body},
            },
            {
                "name": READER,
                "disabled": True,
                "typed_config": {
                    "@type": _LUA,
                    "default_source_code": {"inline_string": lua(limits)},
                    "clear_route_cache": False,  # the script does, once
                },
            },
            _LAST,
        ],
        "local_reply_config": local_replies(limits),
        "server_name": "teal",
        "server_header_transformation": "OVERWRITE",
        **_who_asks(),
        **_paths(),
        **_bounds(limits),
    }


def _who_asks() -> dict[str, Any]:
    """Nobody in front is trusted: addresses are the connection's, and headers that only Envoy or a worker may set are
    dropped before anything reads them."""
    return {
        "use_remote_address": True,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {"@type": _REQUEST_ID, "pack_trace_reason": False}  # a caller's id is not ours to edit
        },
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": _EARLY,
                    "mutations": [
                        {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
                        *({"remove": name} for name in OURS),
                    ],
                },
            }
        ],
    }


def _paths() -> dict[str, Any]:
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
    }


def _bounds(limits: Limits) -> dict[str, Any]:
    return {
        "request_headers_timeout": _seconds(limits.header_seconds),
        "request_timeout": _seconds(limits.request_seconds),  # for the whole request to arrive
        "stream_idle_timeout": _seconds(limits.idle_seconds),
        "max_request_headers_kb": limits.header_bytes // 1024,
        "common_http_protocol_options": {
            "idle_timeout": _seconds(limits.idle_seconds),
            "max_headers_count": limits.headers,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        # Plain health checkers, proxies and ab still speak HTTP/1.0, and some send no Host with it.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "teal"},
        "http2_protocol_options": {
            "max_concurrent_streams": STREAMS_PER_CONNECTION,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": CONNECTION_WINDOW,
        },
    }


def _seconds(value: float) -> str:
    return f"{value:g}s"
