"""The floor under the gateway's latency: Envoy with an empty configuration in front of one worker.

One listener, one route, one cluster, nothing else. What the gateway adds beyond this is ours; what this adds to the
bare engine is Envoy's and the machine's (two more wake-ups of a sleeping process per request).
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contracts.names import Color
from contracts.worker import PATH_READY, WorkerSpec
from loadtests.peers.running import serving
from router.bootstrap import binary

_TYPE = "type.googleapis.com/envoy.extensions.filters."


def configuration(port: int, socket: str) -> dict[str, Any]:
    manager = {
        "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "worker"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _TYPE + "http.router.v3.Router"}}
        ],
    }
    listener = {
        "name": "bare",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": socket}}}}
    assignment = {"cluster_name": "worker", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster = {"name": "worker", "type": "STATIC", "load_assignment": assignment}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def bare_envoy(folder: Path, package: Path, digest: str, port: int) -> Iterator[str]:
    """A worker of its own behind an Envoy of its own; yields the base URL."""
    socket = str(folder / "worker.sock")
    config = folder / "envoy.json"
    config.write_text(json.dumps(configuration(port, socket)))
    worker = subprocess.Popen(
        WorkerSpec("digits", 1, Color.BLUE, str(package), digest, socket).argv(), stderr=subprocess.DEVNULL
    )
    command = [str(binary()), "-c", str(config), "--use-dynamic-base-id", "--log-level", "off"]
    try:
        with serving(command, f"http://127.0.0.1:{port}{PATH_READY}"):
            yield f"http://127.0.0.1:{port}"
    finally:
        worker.terminate()
        worker.wait(40)
