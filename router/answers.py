"""What Envoy says by itself: sentences for what no worker can answer, and the answers that need no worker.

In a route an error is a plain sentence; router/local_replies.py makes of it what REST and gRPC callers expect. What is
said to gRPC in bytes is in router/messages.py.
"""

import json
from collections.abc import Iterable
from typing import Any

from router.table import Backend, ModelRoutes

LIVE = json.dumps({"live": True})
READY = json.dumps({"ready": True})
SERVER_FACTS: dict[str, Any] = {"name": "teal", "version": "2", "extensions": ["binary_tensor_data"]}
SERVER = json.dumps(SERVER_FACTS)

NOT_ALL_READY = "not every deployed model has a ready worker; see GET /v1/models/{model} for which, or try again"
NOTHING_HERE = "nothing is served here; models are under /v1/models/ and /v2/models/"
UNKNOWN_MODEL = "no such model is deployed here; deploy it with: teal deploy NAME"
MALFORMED_V1 = (
    "malformed request: expected POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict, :classify or "
    ":regress, or GET /v1/models/{model}[/versions/{version}|/labels/{label}][/metadata]"
)
WRONG_V2 = (
    "malformed request: expected POST /v2/models/{model}[/versions/{version}]/infer, or "
    "GET /v2/models/{model}[/versions/{version}][/ready]"
)


def unknown_version(routes: ModelRoutes) -> str:
    deployed = ", ".join(str(b.version) for b in routes.backends)
    return f"model {routes.model} has no such version deployed; deployed: {deployed}"


def unknown_label(routes: ModelRoutes) -> str:
    known = ", ".join(sorted(routes.labels)) or "none"
    return f"model {routes.model} has no such label; labels: {known}"


WRONG_INDEX = 'malformed request: expected POST /v2/repository/index with an empty body, {} or {"ready": true}'
NO_METHOD = "no such method is served here; what is served can be listed by gRPC reflection"
NO_DEPLOYING = "models are deployed by the operator, with: teal deploy NAME; they are taken away with: teal drain NAME"
NEEDS_HTTP2 = "gRPC needs HTTP/2; over HTTP/1.1 send JSON to the REST routes"
NO_STREAMS = "streams are not served here; send each request as a call of its own"
NO_WATCHING = "health is not watched here; ask again with Check"
NO_READING = "the gateway did not read the message"  # never said while router/grpc_paths.lua runs


def too_large(limit: int) -> str:
    return f"the body is over the limit of {limit} bytes: send fewer rows at a time"


def status(backends: tuple[Backend, ...]) -> str:
    """TensorFlow Serving's model status, newest version first as it lists them; versions are strings there."""
    return json.dumps({"model_version_status": [version_status(b) for b in newest_first(backends)]})


def newest_first(backends: Iterable[Backend]) -> list[Backend]:
    return sorted(backends, key=lambda b: b.version, reverse=True)


def version_status(backend: Backend) -> dict[str, Any]:
    return {
        "version": str(backend.version),
        "state": "AVAILABLE" if backend.endpoints else "LOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }


def index(entries: Iterable[tuple[str, int, bool]]) -> str:
    """The repository index; entries are (model, version, whether a worker is ready)."""
    return json.dumps([index_entry(*each) for each in entries])


def index_entry(model: str, version: int, ready: bool) -> dict[str, str]:
    state, reason = ("READY", "") if ready else ("LOADING", "no worker of this version is ready yet")
    return {"name": model, "version": str(version), "state": state, "reason": reason}
