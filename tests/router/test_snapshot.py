"""What may be published: nothing in which a route leads nowhere."""

from dataclasses import replace

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import Internal, InvalidInput
from contracts.limits import LIMITS
from contracts.names import Color
from contracts.traffic import TOTAL, Mirror, TrafficSplit
from router import clusters
from router.listener import ROUTES
from router.naming import PREDICT, split_name
from router.routes import fragment
from router.snapshot import Resource, build, follow
from router.table import Backend, ModelRoutes, RoutingTable
from tests.router.gateway import alone, backend, both, table

DIGITS = both("digits", backend(1, Color.BLUE, "/run/1.sock"), backend(2, Color.GREEN, "/run/2.sock"), 25)


def test_a_route_to_a_missing_cluster_is_refused() -> None:
    whole = build(table(DIGITS))
    gone = next(iter(whole.clusters))
    with pytest.raises(Internal, match=f"leads to cluster .*{gone.split('|')[2]}.*, which does not exist"):
        replace(
            whole,
            clusters={n: c for n, c in whole.clusters.items() if n != gone},
            endpoints={n: e for n, e in whole.endpoints.items() if n != gone},
        )


def test_a_cluster_without_endpoints_assigned_is_refused() -> None:
    whole = build(table(DIGITS))
    with pytest.raises(Internal, match="has no assignment of endpoints"):
        replace(whole, endpoints={})


def test_endpoints_of_no_cluster_are_refused() -> None:
    whole = build(table(DIGITS))
    with pytest.raises(Internal, match="assigned to cluster stray, which does not exist"):
        replace(whole, endpoints={**whole.endpoints, "stray": Resource.of(b"")})


def test_weights_that_do_not_add_up_are_refused() -> None:
    whole = build(table(DIGITS))
    with pytest.raises(Internal, match=f"weights of model digits add up to 9999, not {TOTAL}"):
        replace(whole, fragments=(replace(whole.fragments[0], totals=(9999,)),))


def test_facts_about_an_unknown_cluster_are_refused() -> None:
    with pytest.raises(Internal, match="facts are stated of cluster stray"):
        replace(build(table(DIGITS)), populated=frozenset({"stray"}))


@pytest.mark.parametrize("endpoint", ["relative.sock", "host", "host:", "host:0", "host:65536", ":80", ""])
def test_an_endpoint_that_is_no_address_is_refused_with_what_was_expected(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="expected an absolute Unix socket path or host:port"):
        build(table(alone("digits", backend(1, Color.BLUE, endpoint))))


def test_a_change_of_weight_changes_routes_and_neither_clusters_nor_endpoints() -> None:
    before = build(table(DIGITS))
    after = build(table(replace(DIGITS, split=TrafficSplit(blue=1, green=TOTAL - 1))))
    assert after.clusters == before.clusters
    assert after.endpoints == before.endpoints
    assert after.routes != before.routes
    assert after.version != before.version


def test_a_second_worker_changes_endpoints_only() -> None:
    blue, green = DIGITS.backends
    more = replace(DIGITS, backends=(replace(blue, endpoints=("/run/1.sock", "/run/1b.sock")), green))
    before, after = build(table(DIGITS)), build(table(more))
    assert (after.clusters, after.mark) == (before.clusters, before.mark)
    assert after.endpoints != before.endpoints


def test_the_order_in_which_workers_are_named_does_not_matter() -> None:
    blue, green = DIGITS.backends
    one, other = ("/run/1.sock", "/run/2.sock"), ("/run/2.sock", "/run/1.sock")
    assert (
        build(table(replace(DIGITS, backends=(replace(blue, endpoints=one), green)))).version
        == build(table(replace(DIGITS, backends=(replace(blue, endpoints=other), green)))).version
    )


def test_other_settings_make_another_cluster_instead_of_editing_one() -> None:
    other = replace(LIMITS, connect_seconds=0.5)
    assert build(table(DIGITS), other).clusters.keys().isdisjoint(build(table(DIGITS)).clusters.keys())


def test_the_gateway_without_models_is_ready_and_a_model_without_workers_is_not() -> None:
    assert build(RoutingTable()).everyone_ready
    assert not build(table(alone("digits", backend(1, Color.BLUE)))).everyone_ready
    assert build(table(both("digits", backend(1, Color.BLUE), backend(2, Color.GREEN, "/2"), 0))).everyone_ready


names = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]|\.(?=[A-Za-z0-9])){0,20}", fullmatch=True)
sockets = st.lists(st.integers(1, 9).map(lambda n: f"/run/{n}.sock"), max_size=3).map(tuple)


@st.composite
def models(draw: st.DrawFn) -> ModelRoutes:
    model = draw(names)
    versions = draw(st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=2, unique=True))
    colors = draw(st.permutations([Color.BLUE, Color.GREEN]))
    backends = tuple(Backend(v, f"{v:064x}", color, draw(sockets)) for v, color in zip(versions, colors, strict=False))
    units = draw(st.integers(0, TOTAL)) if len(backends) == 2 else TOTAL
    labels = draw(st.dictionaries(st.sampled_from(["live", "candidate", "blue", "mine"]), st.sampled_from(versions)))
    copies = st.builds(Mirror, st.sampled_from([b.color for b in backends]), st.integers(1, TOTAL))
    mirror = draw(st.none() | copies) if len(backends) == 2 else None
    return ModelRoutes(model, backends, TrafficSplit.with_share(backends[0].color, units), labels, mirror)


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    return table(*{m.model: m for m in draw(st.lists(models(), max_size=5))}.values())


@settings(max_examples=150, deadline=None)
@given(tables())
def test_every_table_gives_one_consistent_snapshot(given_table: RoutingTable) -> None:
    made, again = build(given_table), build(given_table)
    assert made.version == again.version
    assert made.routes == again.routes
    assert set(made.clusters) == set(made.endpoints) == set(made.shares)
    assert set(made.routes) == {ROUTES}
    used = frozenset().union(*(part.clusters for part in made.fragments))
    assert used == made.clusters.keys()  # every version can be reached by its number


@settings(max_examples=100, deadline=None)
@given(models())
def test_the_arms_of_a_split_are_blue_then_green_at_their_shares(model: ModelRoutes) -> None:
    part = fragment(model, LIMITS)
    assert part.totals == ((TOTAL, TOTAL) if len(model.backends) == 2 else ())
    for b in model.backends:
        assert clusters.name_of(PREDICT, model, b, LIMITS) in part.clusters


def test_a_change_of_weight_alone_leaves_the_routes_as_they_were_and_says_the_weights_apart() -> None:
    former = build(table(DIGITS))
    after = follow(former, table(replace(DIGITS, split=TrafficSplit(blue=1, green=TOTAL - 1))))
    assert after.routes == former.routes
    assert after.shares != former.shares
    assert sorted(after.overrides.values()) == [1, TOTAL - 1]
    assert after.standing != former.standing
    back = follow(after, table(DIGITS))
    assert (back.routes, back.overrides) == (former.routes, {})
    assert back.standing not in (former.standing, after.standing)  # a thread that is one change behind is told apart
    assert follow(back, table(DIGITS)).standing == back.standing


def test_with_new_routes_nothing_is_left_to_say_apart() -> None:
    before = follow(build(table(DIGITS)), table(replace(DIGITS, split=TrafficSplit(blue=1, green=TOTAL - 1))))
    third = replace(DIGITS, backends=(DIGITS.backends[0], backend(3, Color.GREEN, "/run/3.sock")), labels={"live": 1})
    for changed in (third, replace(DIGITS, labels={"live": 2})):
        after = follow(before, table(changed))
        assert after.routes != before.routes
        assert (after.overrides, after.turn) == ({}, 0)
        assert after.mark == build(table(changed)).mark


def test_without_a_label_for_the_live_version_the_split_says_which_it_is_and_is_said_in_the_routes() -> None:
    bare = replace(DIGITS, labels={})
    former = build(table(bare))
    assert follow(former, table(replace(bare, split=TrafficSplit(blue=1, green=TOTAL - 1)))).routes != former.routes


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, TOTAL))
def test_routes_and_overrides_together_say_todays_split(given_table: RoutingTable, units: int) -> None:
    moved = table(
        *(replace(m, split=TrafficSplit.with_share(Color.BLUE, units)) if len(m.backends) > 1 else m
          for m in given_table.models)
    )  # fmt: skip
    made = follow(build(given_table), moved)
    for m in moved.models:
        for b in m.backends:
            key = f"{split_name(m.model, m.backends)}.{clusters.name_of(PREDICT, m, b, LIMITS)}"
            if len(m.backends) > 1:
                assert made.overrides.get(key, made.base[m.model].share(b.color)) == m.split.share(b.color)


@pytest.mark.parametrize("name", ["c", "n" * 127, "n" * 128, "n" * 300])
def test_what_is_written_by_hand_is_read_as_it_is_meant(name: str) -> None:
    made = Cluster.FromString(clusters.cluster(name, clusters.settings(PREDICT, LIMITS)))
    assert (made.name, made.eds_cluster_config.service_name) == (name, name)
    assert made.eds_cluster_config.eds_config.HasField("ads")
    given = ClusterLoadAssignment.FromString(clusters.assignment(name, ("/run/1.sock",)))
    assert given.cluster_name == name
    assert [e.endpoint.address.pipe.path for e in given.endpoints[0].lb_endpoints] == ["/run/1.sock"]


def test_a_version_that_leaves_the_routes_loses_its_share_before_they_are_made() -> None:
    former = build(table(DIGITS, alone("other", backend(1, Color.BLUE, "/run/o.sock"))))
    wanted = follow(
        former, table(alone("digits", DIGITS.backends[0]), alone("other", backend(1, Color.BLUE, "/run/o")))
    )
    layer = former.ahead_to(wanted)
    assert layer is not None
    said = Runtime.FromString(layer["weights"].body).layer
    assert {key.split("|")[-1]: units for key, units in said.items()} == {"blue": TOTAL, "green": 0}
    assert former.ahead_to(former) is None
    third = replace(DIGITS, backends=(DIGITS.backends[0], backend(3, Color.GREEN, "/run/3.sock")), labels={"live": 1})
    assert former.ahead_to(build(table(third))) is None  # the routes that there are know nothing of a third
