"""gRPC methods as routes: which are read by Lua and go on as a prediction, which Envoy answers, which it refuses.

The methods about one model end in the same lists as REST (router/routes.py), once router/grpc_paths.lua has turned
their path into a REST path; docs/decisions/0009 has the table. Here is what belongs to no model.

An answer with a body needs trailers, which Envoy does not give to what it answers itself. So it asks itself: `asked`
sends the call to a listener that takes the message out of gRPC's frame and passes it on to another one
(router/listener.py), which finds `answered` in this same table; on its way back the answer gets frame and trailers.
"""

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    FilterConfig,
    HeaderMatcher,
    QueryParameterMatcher,
    Route,
    RouteAction,
    RouteList,
    RouteMatch,
)
from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import Buffer, BufferPerRoute
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import UInt32Value

from contracts.limits import Limits
from contracts.protos import HEALTH_SERVICE, INFERENCE_SERVICE, MODEL_SERVICE, PREDICTION_SERVICE
from router import answers, messages
from router.fragments import GRACE_SECONDS, Fragment, Tree, body_over, direct, header, longest_wait
from router.local_replies import GRPC_TYPE
from router.messages import Deployed
from router.naming import BRIDGE, REFLECTION
from router.reflection import METHODS as REFLECTION_METHODS

# Filters that are off unless a route of this file switches them on: one wants HTTP/2, one waits for the whole body, up
# to a limit of its own, and says its length; the last is Lua that reads it.
HTTP2 = "teal.http2"
BUFFER = "teal.whole_body"
READER = "teal.grpc_paths"
HEADER_ANSWER = "x-teal-answer"  # marks what Envoy asks itself; a caller's own is dropped
PLAIN_TYPE = "application/x-protobuf"  # of a message out of its frame

# Envoy gives an empty body no content type, so an empty message says something after all: 0 in a field nobody has.
NOTHING_SAID = b"\x78\x00"

INDEX = "/v2/repository/index"
INDEX_BODY_BYTES = 4096  # what {"ready": true} may come with

READ = {
    PREDICTION_SERVICE: ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"),
    MODEL_SERVICE: ("GetModelStatus",),
    INFERENCE_SERVICE: ("ModelInfer", "ModelReady", "ModelMetadata", "RepositoryIndex"),
    HEALTH_SERVICE: ("Check",),
}
REFUSED = {
    PREDICTION_SERVICE: {},
    MODEL_SERVICE: {"HandleReloadConfigRequest": answers.NO_DEPLOYING},
    INFERENCE_SERVICE: {
        "RepositoryModelLoad": answers.NO_DEPLOYING,
        "RepositoryModelUnload": answers.NO_DEPLOYING,
        "ModelStreamInfer": answers.NO_STREAMS,
    },
    HEALTH_SERVICE: {"Watch": answers.NO_WATCHING},
}

# Envoy knows which streams hold how much memory, and so can reset them (router/bootstrap.py), on HTTP/2 only.
ONLY_HTTP2 = f"""
function envoy_on_request(handle)
  if handle:streamInfo():protocol():find("^HTTP/1") then
    handle:respond({{[":status"] = "501"}}, "{answers.NEEDS_HTTP2}")
  end
end
"""

_GRPC = StringMatcher(safe_regex=RegexMatcher(regex=GRPC_TYPE))
IS_GRPC = HeaderMatcher(name="content-type", string_match=_GRPC)
_IS_ANSWER = HeaderMatcher(name=HEADER_ANSWER, present_match=True)
_IS_PLAIN = HeaderMatcher(name="content-type", string_match=StringMatcher(exact=PLAIN_TYPE))
_IS_POST = HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"))
_EVERYTHING = RouteMatch(prefix="/")


def lua(limits: Limits) -> str:
    """The source of the reader, behind the numbers it needs."""
    numbers = f"local REQUEST_MS, GRACE_MS = {limits.request_seconds * 1000:.0f}, {GRACE_SECONDS * 1000:.0f}\n"
    return numbers + files("router").joinpath("grpc_paths.lua").read_text()


def asked(match: Any, limits: Limits, headers: Iterable[Any] = ()) -> Any:
    """A gRPC call that Envoy asks itself."""
    return Route(
        match=_narrowed(match, IS_GRPC),
        route=RouteAction(cluster=BRIDGE, timeout=longest_wait(limits)),
        request_headers_to_add=[HeaderValueOption(header=HeaderValue(key=HEADER_ANSWER, value="1"))],
        response_headers_to_add=headers,
    )


def answered(match: Any, body: bytes) -> Any:
    """What `asked` hears: a serialized message."""
    return Route(
        match=_narrowed(match, _IS_PLAIN, _IS_ANSWER),
        direct_response=DirectResponseAction(status=200, body=DataSource(inline_bytes=body or NOTHING_SAID)),
        response_headers_to_add=[header("content-type", PLAIN_TYPE)],
    )


@lru_cache(maxsize=4)
def services(deployed: tuple[Deployed, ...], everyone_ready: bool, limits: Limits) -> Fragment:
    """The routes of all methods, and the index of models for REST and gRPC alike."""
    ready = tuple(each for each in deployed if each.ready)
    own = {
        INFERENCE_SERVICE: {
            "ServerLive": messages.server_live(),
            "ServerReady": messages.server_ready(everyone=everyone_ready),
            "ServerMetadata": messages.server_metadata(),
        },
        HEALTH_SERVICE: {"Check?service=known": messages.health()},
    }
    lists = {f"/{name}/": RouteList(routes=_service(name, own.get(name, {}), limits)) for name in READ}
    lists["/v2/repository/"] = RouteList(routes=_repository(deployed, ready, limits))
    lists["/grpc.reflection."] = RouteList(routes=_reflection(limits))
    return Fragment.of("services", {(Tree.OTHER, prefix): routes for prefix, routes in lists.items()})


def _service(name: str, own: dict[str, bytes], limits: Limits) -> Iterable[Any]:
    """`own` are the methods, with a query where Lua leaves one, that Envoy answers with these bytes."""
    for method, body in own.items():
        match = _path(f"/{name}/{method}")
        yield asked(match, limits)
        yield answered(match, body)
    grpc = RouteMatch(prefix="/", headers=[IS_GRPC])
    yield direct(_narrowed(grpc, body_over(limits.binary_body)), 413, answers.too_large(limits.binary_body))
    for method in READ[name]:
        yield _read(RouteMatch(path=f"/{name}/{method}", headers=[IS_GRPC]), limits.binary_body, HTTP2)
    for method, sentence in REFUSED[name].items():
        yield direct(RouteMatch(path=f"/{name}/{method}", headers=[IS_GRPC]), 501, sentence)
    yield direct(grpc, 501, answers.NO_METHOD)
    yield direct(_EVERYTHING, 404, answers.NOTHING_HERE)


def _repository(deployed: Iterable[Deployed], ready: Iterable[Deployed], limits: Limits) -> Iterable[Any]:
    for wanted, entries in (("false", deployed), ("true", ready)):
        match = _path(f"{INDEX}?ready={wanted}")
        yield asked(match, limits)
        yield answered(match, messages.index(entries))
        yield direct(_narrowed(match, _IS_POST), 200, answers.index(entries))
    yield _read(RouteMatch(path=INDEX, headers=[_IS_POST]), INDEX_BODY_BYTES)
    yield direct(RouteMatch(path=INDEX), 405, answers.WRONG_INDEX)
    yield direct(RouteMatch(prefix="/v2/repository/models/"), 501, answers.NO_DEPLOYING)
    yield direct(_EVERYTHING, 404, answers.NOTHING_HERE)


def _reflection(limits: Limits) -> Iterable[Any]:
    """The two methods by name: the same socket serves Envoy's configuration, which is nobody else's business."""
    for method in REFLECTION_METHODS:
        action = RouteAction(cluster=REFLECTION, timeout=longest_wait(limits))
        action.max_stream_duration.max_stream_duration.CopyFrom(longest_wait(limits))
        yield Route(match=RouteMatch(path=method, headers=[IS_GRPC]), route=action)
    yield direct(RouteMatch(prefix="/", headers=[IS_GRPC]), 501, answers.NO_METHOD)
    yield direct(_EVERYTHING, 404, answers.NOTHING_HERE)


def _read(match: Any, limit: int, *filters: str) -> Any:
    """A route on which Lua reads the body, up to `limit` bytes, and goes on by another path; `filters` come before."""
    made = direct(match, 500, answers.NO_READING)
    size = BufferPerRoute(buffer=Buffer(max_request_bytes=UInt32Value(value=limit)))
    for name, config in (*((each, AnyMessage()) for each in filters), (BUFFER, _packed(size)), (READER, AnyMessage())):
        made.typed_per_filter_config[name].Pack(FilterConfig(config=config))
    return made


def renumbered(match: Any) -> Any:
    """A route on which Lua takes zeros off the front of a version and goes on by that path: TensorFlow Serving reads
    versions as numbers."""
    made = direct(match, 500, answers.NO_READING)
    made.typed_per_filter_config[READER].Pack(FilterConfig(config=AnyMessage()))
    return made


def _packed(message: Any) -> Any:
    made = AnyMessage()
    made.Pack(message)
    return made


def _path(path: str) -> Any:
    """Matches a path and, if it has one, its query of one parameter."""
    bare, _, query = path.partition("?")
    made = RouteMatch(path=bare)
    if query:
        name, _, value = query.partition("=")
        made.query_parameters.append(QueryParameterMatcher(name=name, string_match=StringMatcher(exact=value)))
    return made


def _narrowed(match: Any, *headers: Any) -> Any:
    made = RouteMatch()
    made.CopyFrom(match)
    made.headers.extend(headers)
    return made
