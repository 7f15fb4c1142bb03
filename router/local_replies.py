"""How Envoy says what it has to say itself: one rule per reason, for REST as JSON, for gRPC as a status.

Errors of REST look like TensorFlow Serving's: {"error": "<sentence>"}. A rule without a sentence of its own wraps the
one that a route or a filter gave; answers with status 200 are left as they are.
"""

from enum import IntEnum
from typing import Any

from contracts.limits import Limits
from router import answers

RETRY_AFTER_SECONDS = 1
GRPC_TYPE = r"application/grpc(\+.*)?"  # the content types of gRPC; application/grpc-web is another protocol


class Code(IntEnum):
    """What gRPC calls the reasons for which Envoy answers."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


_CEL = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
BODY = "%LOCAL_REPLY_BODY%"
NO_HTTP = (
    "the request is not valid HTTP: its request line, its lengths, a header, or a path with escaped slashes or NUL"
)
GRPC_CODES = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}


def local_replies(limits: Limits) -> dict[str, Any]:
    """Envoy's local_reply_config: one sentence per reason Envoy has to answer instead of a worker, as JSON, and for
    gRPC as a message with a code. Envoy's own codes would call every 404 unimplemented and every 400 our fault."""
    seconds = f"{limits.request_seconds:g}"
    unreachable = ["UF", "UC", "UR", "LR", "UPE"]
    away = "reflection is answered by the control plane, which is away; predictions do not need it"
    return {
        "mappers": [
            _pass_through(200),
            *_say(_flags("UH", "NC"), Code.UNAVAILABLE, "no worker of this model version is ready; try again"),
            *_say(_flags("UO"), Code.UNAVAILABLE, "too many requests are under way for this model version; try again"),
            *_say(_details("overload"), Code.UNAVAILABLE, "the gateway is out of memory for new requests; try again"),
            _grpc(_flags("UT", "DT"), Code.DEADLINE_EXCEEDED, "no answer before the deadline"),
            _rest(_flags("UT", "DT"), f"no answer within {seconds} seconds"),
            _grpc(_both(_path("/grpc.reflection."), _code(503)), Code.UNAVAILABLE, away),
            *_say(
                _both(_flags(*unreachable), _code(503)),
                Code.UNAVAILABLE,
                "the worker hung up before it answered; try again",
            ),
            *_say(_both(_flags(*unreachable), _code(502)), Code.INTERNAL, "the worker's answer is not HTTP"),
            *_say(_flags("NR"), Code.NOT_FOUND, answers.UNKNOWN_MODEL),
            *_say(
                _code(408),
                Code.DEADLINE_EXCEEDED,
                "the request did not arrive in time; send header and body without pauses",
            ),
            *_say(
                _code(431),
                Code.RESOURCE_EXHAUSTED,
                f"headers are over the limit of {limits.headers} headers or {limits.header_bytes} bytes",
            ),
            # What routes and Lua refuse has a sentence; what Envoy's reading of HTTP refuses: none, or "Bad Request".
            *_say(
                _both(_code(400), _details("direct_response", "lua_response", other=True)),
                Code.INVALID_ARGUMENT,
                NO_HTTP,
            ),
            _grpc(_code(413), Code.RESOURCE_EXHAUSTED, answers.too_large(limits.binary_body)),
            *(_grpc(_code(status), code, BODY) for status, code in GRPC_CODES.items()),
            _keep(_code(503), retry=True),
        ],
        "body_format": {"json_format": {"error": BODY}},
    }


def _say(when: dict[str, Any], code: Code, sentence: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same sentence for gRPC and for REST, where one may try again later."""
    return _grpc(when, code, sentence), _rest(when, sentence, retry=code is Code.UNAVAILABLE)


def _grpc(when: dict[str, Any], code: Code, sentence: str) -> dict[str, Any]:
    """Verified on Envoy 1.40: a grpc-status that a mapper adds is not replaced, the text becomes grpc-message."""
    return {
        "filter": _both(_header("content-type", {"safe_regex": {"regex": GRPC_TYPE}}), when),
        "body_format_override": {"text_format_source": {"inline_string": sentence}},
        "headers_to_add": [_set("grpc-status", str(code.value))],
    }


def _rest(when: dict[str, Any], sentence: str, *, retry: bool = False) -> dict[str, Any]:
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
            "text_format_source": {"inline_string": BODY},
            "content_type": "application/json",
        },
    }


def _retry_after() -> dict[str, Any]:
    return {"headers_to_add": [_set("retry-after", str(RETRY_AFTER_SECONDS))]}


def _set(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _path(prefix: str) -> dict[str, Any]:
    return _header(":path", {"prefix": prefix})


def _header(name: str, match: dict[str, Any]) -> dict[str, Any]:
    """A request's header."""
    return {"header_filter": {"header": {"name": name, "string_match": match}}}


def _details(*details: str, other: bool = False) -> dict[str, Any]:
    """Envoy's own word for why it answers is one of `details`; with `other`, none of them."""
    named = f"response.code_details in {list(details)}"
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": _CEL, "expression": f"!({named})" if other else named},
        }
    }


def _flags(*flags: str) -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(flags)}}


def _code(code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"teal.local_reply.{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": [first, second]}}
