"""What Envoy says by itself: sentences for what no worker can answer, and the answers that need no worker.

Errors look like TensorFlow Serving's: {"error": "<sentence>"}. In a route an error is a plain sentence; the local
reply rules wrap every one of them as JSON and leave answers with status 200 as they are.
"""

import json
from typing import Any

from contracts.limits import Limits
from router.table import Backend, ModelRoutes

RETRY_AFTER_SECONDS = 1

LIVE = json.dumps({"live": True})
READY = json.dumps({"ready": True})
SERVER = json.dumps({"name": "teal", "version": "2", "extensions": ["binary_tensor_data"]})

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


def too_large(limit: int) -> str:
    return f"the body is over the limit of {limit} bytes: send fewer rows at a time"


def status(backends: tuple[Backend, ...]) -> str:
    """TensorFlow Serving's model status, newest version first as it lists them; versions are strings there."""
    ordered = sorted(backends, key=lambda b: b.version, reverse=True)
    return json.dumps({"model_version_status": [_version_status(b) for b in ordered]})


def _version_status(backend: Backend) -> dict[str, Any]:
    return {
        "version": str(backend.version),
        "state": "AVAILABLE" if backend.endpoints else "LOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }


def local_replies(limits: Limits) -> dict[str, Any]:
    """Envoy's local_reply_config: one sentence per reason Envoy has to answer instead of a worker."""
    seconds = f"{limits.request_seconds:g}"
    unreachable = ["UF", "UC", "UR", "LR", "UPE"]
    return {
        "mappers": [
            _pass_through(200),
            _say(_flags("UH", "NC"), "no worker of this model version is ready; try again", retry=True),
            _say(_flags("UO"), "too many requests are under way for this model version; try again", retry=True),
            _say(_flags("OM"), "the gateway is out of memory for new requests; try again", retry=True),
            _say(_flags("UT", "DT"), f"no answer within {seconds} seconds"),
            _say(
                _both(_flags(*unreachable), _code(503)), "the worker hung up before it answered; try again", retry=True
            ),
            _say(_both(_flags(*unreachable), _code(502)), "the worker's answer is not HTTP"),
            _say(_flags("NR"), UNKNOWN_MODEL),
            _say(_code(408), "the request did not arrive in time; send header and body without pauses"),
            _say(_code(431), f"headers are over the limit of {limits.headers} headers or {limits.header_bytes} bytes"),
            _say(_both(_flags("DPE"), _code(400)), "the request is not valid HTTP"),
            _keep(_code(503), retry=True),
        ],
        "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
    }


def _say(when: dict[str, Any], sentence: str, *, retry: bool = False) -> dict[str, Any]:
    return {
        "filter": when,
        "body_format_override": {"json_format": {"error": sentence}},
        **(_retry_after() if retry else {}),
    }


def _keep(when: dict[str, Any], *, retry: bool) -> dict[str, Any]:
    return {"filter": when, **(_retry_after() if retry else {})}


def _pass_through(code: int) -> dict[str, Any]:
    return {
        "filter": _code(code),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _retry_after() -> dict[str, Any]:
    header = {"key": "retry-after", "value": str(RETRY_AFTER_SECONDS)}
    return {"headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _flags(*flags: str) -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(flags)}}


def _code(code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"teal.local_reply.{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": [first, second]}}
