"""gRPC's part of the route table: what Lua may touch, what the messages say, what Envoy's answers are bounded by."""

from typing import Any

import pytest
from envoy.config.route.v3.route_components_pb2 import FilterConfig, RouteList
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import BufferPerRoute

from contracts.limits import LIMITS
from contracts.names import Color
from contracts.protos import SERVICES
from router import messages
from router.listener import ROUTES
from router.local_replies import local_replies
from router.messages import Deployed, message, pool
from router.route_table import DIRECT_BODY_BYTES, SHAPES
from router.rpc import BUFFER, HTTP2, INDEX, IS_GRPC, READ, READER, REFUSED, lua, services
from router.snapshot import build
from router.table import Backend, RoutingTable
from tests.router.gateway import alone, backend, both, table

DIGITS = both("digits", backend(1, Color.BLUE, "/run/1.sock"), backend(2, Color.GREEN), 25)


def routes(snapshot: Any) -> list[Any]:
    """Every route of a snapshot's table."""
    sent = RouteConfiguration.FromString(snapshot.routes[ROUTES].body)
    matcher = sent.virtual_hosts[0].matcher
    trees = (matcher.matcher_list.matchers[0].on_match.matcher, matcher.on_no_match.matcher)
    lists = [on.action for tree in trees for on in tree.matcher_tree.prefix_match_map.map.values()]
    lists += [tree.on_no_match.action for tree in trees]
    made = []
    for each in lists:
        body = RouteList()
        assert each.typed_config.Unpack(body)
        made += body.routes
    return made


def test_only_grpc_and_the_index_of_models_are_read_by_lua_and_each_within_its_limit() -> None:
    read = [route for route in routes(build(table(DIGITS))) if route.typed_per_filter_config]
    limits = {}
    for route in read:
        if "/versions/0" in route.match.prefix:  # read for the sake of its path
            assert set(route.typed_per_filter_config) == {READER}
            continue
        only = set() if route.match.path == INDEX else {HTTP2}
        assert set(route.typed_per_filter_config) == {BUFFER, READER} | only
        config, size = FilterConfig(), BufferPerRoute()
        assert route.typed_per_filter_config[BUFFER].Unpack(config)
        assert config.config.Unpack(size)
        limits[route.match.path] = size.buffer.max_request_bytes.value
        assert IS_GRPC in route.match.headers or route.match.path == INDEX
    methods = {f"/{service}/{method}" for service in SERVICES for method in READ[service]}
    assert limits == {**dict.fromkeys(methods, LIMITS.binary_body), INDEX: 4096}


def test_every_method_that_is_read_is_known_to_lua_and_every_described_method_is_answered() -> None:
    source = lua(LIMITS)
    assert source.startswith("local REQUEST_MS, GRACE_MS = 30000, 1000\n")
    for service in SERVICES:
        described = {method.name for method in pool().FindServiceByName(service).methods}
        assert described.isdisjoint(REFUSED[service])
        alone_answered = described - set(READ[service])
        assert alone_answered <= {"ServerLive", "ServerReady", "ServerMetadata"}
        for method in READ[service]:
            assert f'"{method}"]' in source or f"/{service}/{method}" in source


def test_the_messages_say_what_rest_says() -> None:
    two = (Backend(2, "d", Color.GREEN, ()), Backend(1, "d", Color.BLUE, ("/run/1.sock",)))
    said = message("tensorflow.serving.GetModelStatusResponse").FromString(messages.status(two))
    assert [(s.version, s.state, s.status.error_code) for s in said.model_version_status] == [(2, 20, 0), (1, 30, 0)]
    index = message("inference.RepositoryIndexResponse").FromString(
        messages.index([Deployed("a", 1, True), Deployed("b", 2, False)])
    )
    assert [(m.name, m.version, m.state) for m in index.models] == [("a", "1", "READY"), ("b", "2", "LOADING")]


def test_the_index_of_ten_thousand_models_with_two_versions_of_the_longest_names_fits() -> None:
    longest = tuple(Deployed(f"{n:x<63}", 2**63 - 1 - n % 2, False) for n in range(20_000))
    for _, _, body in services(longest, False, LIMITS).lists:
        sizes = [len(r.direct_response.body.inline_bytes) for r in RouteList.FromString(body).routes]
        sizes += [len(r.direct_response.body.inline_string) for r in RouteList.FromString(body).routes]
        assert max(sizes) < DIRECT_BODY_BYTES


def test_a_model_that_comes_or_gets_ready_changes_the_index_and_a_second_worker_does_not() -> None:
    def index(*models: Any) -> Any:
        return next(f for f in build(table(*models)).fragments if f.model == "services").digest

    one = alone("digits", backend(1, Color.BLUE, "/run/1.sock"))
    assert index(one) == index(alone("digits", backend(1, Color.BLUE, "/run/1.sock", "/run/2.sock")))
    assert len({index(), index(one), index(one, DIGITS_2), index(alone("digits", backend(1, Color.BLUE)))}) == 4
    assert build(RoutingTable()).mark != build(table(one)).mark


DIGITS_2 = alone("digits2", backend(1, Color.BLUE, "/run/1.sock"))


@pytest.mark.parametrize("reason", [400, 404, 405, 408, 413, 431, 500, 501, 502, 503])
def test_every_status_envoy_answers_by_itself_has_a_grpc_code(reason: int) -> None:
    mappers = [m for m in local_replies(LIMITS)["mappers"] if "grpc-status" in str(m)]
    assert any(f"'default_value': {reason}," in str(mapper["filter"]) for mapper in mappers)


def test_rest_shapes_are_asked_before_those_of_grpc_so_that_rest_pays_nothing() -> None:
    sent = RouteConfiguration.FromString(build(table(DIGITS)).routes[ROUTES].body)
    shapes = sent.virtual_hosts[0].matcher.matcher_list.matchers[0].predicate.or_matcher.predicate
    assert ["content-type" in str(shape) for shape in shapes] == [False] * len(SHAPES) + [True] * 3
