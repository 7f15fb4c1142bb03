"""All models' routes as the one RouteConfiguration Envoy gets.

A request is first told apart by the shape of its path and its verb, once for all models; then the longest known
prefix of the path in a tree leads to its model's own short list. No step depends on how many models there are.
A gRPC call comes twice: by its method to router/rpc.py, where Lua gives it the path of its model, and then by that.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.config.route.v3 import route_components_pb2
from envoy.config.route.v3.route_components_pb2 import Route, RouteList, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf import json_format

from contracts.limits import MIB
from router import answers
from router.fragments import Fragment, Tree, direct, header
from router.listener import ROUTES
from router.local_replies import GRPC_TYPE
from router.rpc import IS_GRPC

# On GET /v2/health/live: by which table and by which turn of weights the thread that answered routes (`standing`).
HEADER_TABLE = "x-teal-table"
TURNS = 7  # a thread would have to be that many changes of weights behind to be taken for one that has followed
PATH_TABLE = "/v2/health/live"

RETRY_BODY_BYTES = 4 * MIB  # bodies up to this can be sent to a second worker; larger ones are tried once
DIRECT_BODY_BYTES = 16 * MIB  # a bound on what we write ourselves: the index of 10,000 models takes about 2 MB

_V1 = r"/v1/models/[^/:?]+(/versions/[0-9]{1,19}|/labels/[^/:?]+)?"
_V2 = r"/v2/models/[^/?]+(/versions/[^/?]+)?"
_V2_READS = "(/ready|/stats|/config)?"
_QUERY = r"(\?.*)?"
SHAPES = (
    ("POST", _V1 + ":(predict|classify|regress)" + _QUERY),
    ("POST", _V2 + "/infer" + _QUERY),
    ("GET", _V1 + "(/metadata)?" + _QUERY),
    ("GET", _V2 + _V2_READS + _QUERY),
)
# A gRPC call is a POST whatever it asks; these it may ask besides.
GRPC_SHAPES = (_V1 + ":multiinference" + _QUERY, _V1 + "(/metadata)?" + _QUERY, _V2 + "(/ready)?" + _QUERY)
V2_PATH = _V2 + f"(/infer|{_V2_READS})"

_INPUT_TYPE = f"type.googleapis.com/{http_inputs_pb2.HttpRequestHeaderMatchInput.DESCRIPTOR.full_name}"
_PREVIOUS_HOSTS = f"type.googleapis.com/{previous_hosts_pb2.PreviousHostsPredicate.DESCRIPTOR.full_name}"


def standing(mark: str, turn: int) -> str:
    """What a thread says that routes by this table and these weights."""
    return f"{mark}.{turn}"


def turn_key(turn: int) -> str:
    """What Envoy's runtime calls a turn; 100 when it is this one's."""
    return f"teal.turn.{turn}"


def table_mark(fragments: Sequence[Fragment], everyone_ready: bool) -> str:
    """Twelve letters that stand for exactly this route table."""
    whole = sha256(assemble((), everyone_ready, mark="").SerializeToString(deterministic=True))
    for part in fragments:
        whole.update(part.digest)
    return whole.hexdigest()[:12]


def assemble(fragments: Iterable[Fragment], everyone_ready: bool, mark: str) -> Any:
    """The RouteConfiguration. `everyone_ready`: every deployed model has an endpoint, which is also so with none
    deployed, because the gateway itself is up; `GET /v2/health/ready` says it."""
    made = RouteConfiguration(name=ROUTES)
    made.CopyFrom(_frame(everyone_ready, mark))
    matcher = made.virtual_hosts[0].matcher
    known = matcher.matcher_list.matchers[0].on_match.matcher.matcher_tree.prefix_match_map.map
    other = matcher.on_no_match.matcher.matcher_tree.prefix_match_map.map
    for part in fragments:
        for tree, prefix, body in part.lists:
            action = (known if tree is Tree.KNOWN else other)[prefix].action
            action.name = part.model
            action.typed_config.type_url = _ROUTE_LIST
            action.typed_config.value = body
    return made


_ROUTE_LIST = f"type.googleapis.com/{RouteList.DESCRIPTOR.full_name}"


@lru_cache(maxsize=4)
def _frame(everyone_ready: bool, mark: str) -> Any:
    """Everything that does not depend on the models."""
    made = RouteConfiguration(name=ROUTES)
    # A tree must not be empty, and this prefix is nobody's: it keeps the shape the same with no model at all.
    nobody = {"/-/": _action(RouteList(routes=[direct(RouteMatch(prefix="/"), 404, answers.NOTHING_HERE)]))}
    general = _action(RouteList(routes=_general(everyone_ready, mark)))
    rest = [_both(_header_is(":method", {"exact": verb}), _path_is(path)) for verb, path in SHAPES]
    post_of_grpc = _both(_header_is(":method", {"exact": "POST"}), _header_is("content-type", _pattern(GRPC_TYPE)))
    calls = [_both(post_of_grpc, _path_is(path)) for path in GRPC_SHAPES]
    made.validate_clusters.value = True
    made.max_direct_response_body_size_bytes.value = DIRECT_BODY_BYTES
    host = {
        "name": ROUTES,
        "domains": ["*"],
        "retry_policy": _retries(),
        "request_body_buffer_limit": RETRY_BODY_BYTES,
        # x-envoy-attempt-count tells a worker that a request was tried elsewhere before. A caller's own is dropped.
        "include_request_attempt_count": True,
        "matcher": {
            "matcher_list": {
                "matchers": [
                    {
                        "predicate": {"or_matcher": {"predicate": [*rest, *calls]}},
                        "on_match": {"matcher": _tree(nobody, general)},
                    },
                ]
            },
            "on_no_match": {"matcher": _tree(nobody, general)},
        },
    }
    made.virtual_hosts.append(json_format.ParseDict(host, VirtualHost()))
    return made


def _general(everyone_ready: bool, mark: str) -> Iterable[Route]:
    """What is left when no model's list was reached."""
    get = route_components_pb2.HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))
    ready = (200, answers.READY) if everyone_ready else (503, answers.NOT_ALL_READY)
    yield direct(RouteMatch(path="/v2", headers=[get]), 200, answers.SERVER)
    for turn in range(1, TURNS + 1):
        when = RuntimeFractionalPercent(runtime_key=turn_key(turn), default_value=FractionalPercent())
        match = RouteMatch(path=PATH_TABLE, headers=[get], runtime_fraction=when)
        yield direct(match, 200, answers.LIVE, [header(HEADER_TABLE, standing(mark, turn))])
    yield direct(
        RouteMatch(path=PATH_TABLE, headers=[get]), 200, answers.LIVE, [header(HEADER_TABLE, standing(mark, 0))]
    )
    yield direct(RouteMatch(path="/v2/health/ready", headers=[get]), *ready)
    yield direct(RouteMatch(path="/v2"), 405, answers.WRONG_V2)
    yield direct(RouteMatch(prefix="/v2/health/"), 404, answers.NOTHING_HERE)
    for verb, path in SHAPES:
        method = route_components_pb2.HeaderMatcher(name=":method", string_match=StringMatcher(exact=verb))
        yield direct(_shape(path, method), 404, answers.UNKNOWN_MODEL)
    for path in GRPC_SHAPES:
        yield direct(_shape(path, IS_GRPC), 404, answers.UNKNOWN_MODEL)
    yield direct(_shape(V2_PATH), 405, answers.WRONG_V2)
    yield direct(RouteMatch(path_separated_prefix="/v1"), 400, answers.MALFORMED_V1)
    yield direct(RouteMatch(prefix="/v2/models/"), 404, answers.WRONG_V2)
    yield direct(RouteMatch(prefix="/", headers=[IS_GRPC]), 501, answers.NO_METHOD)
    yield direct(RouteMatch(prefix="/"), 404, answers.NOTHING_HERE)


def _shape(path: str, *headers: Any) -> Any:
    match = RouteMatch(headers=headers)
    match.safe_regex.regex = path.removesuffix(_QUERY)  # a route's own pattern sees no query
    return match


def _retries() -> dict[str, Any]:
    """One more try, on another worker if there is one, only while no byte of an answer was sent, and only because the
    worker was not reached or died. Predictions change nothing, so repeating one is safe; statuses and time-outs are
    answers and are not repeated. The budget that stops retry storms is the cluster's (router/clusters.py)."""
    previous = {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": _PREVIOUS_HOSTS}}
    return {
        "retry_on": "connect-failure,refused-stream,reset,reset-before-request",
        "num_retries": 1,
        "retry_host_predicate": [previous],
        # Least-request prefers a dead worker, which has no request under way, so a few tries would find it again and
        # again; a try costs nanoseconds.
        "host_selection_retry_max_attempts": 64,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
    }


def _tree(entries: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    return {
        "matcher_tree": {"input": _path_input(":path"), "prefix_match_map": {"map": entries}},
        "on_no_match": otherwise,
    }


def _both(*predicates: dict[str, Any]) -> dict[str, Any]:
    return {"and_matcher": {"predicate": predicates}}


def _path_is(path: str) -> dict[str, Any]:
    return _header_is(":path", _pattern(path))


def _header_is(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"single_predicate": {"input": _path_input(name), "value_match": value}}


def _path_input(header_name: str) -> dict[str, Any]:
    return {"name": header_name, "typed_config": {"@type": _INPUT_TYPE, "header_name": header_name}}


def _action(routes: Any) -> dict[str, Any]:
    config = {"@type": _ROUTE_LIST, **json_format.MessageToDict(routes, preserving_proto_field_name=True)}
    return {"action": {"name": "routes", "typed_config": config}}


def _pattern(regex: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": regex, "google_re2": {}}}
