"""From deployments and ready workers to placements and Envoy's table."""

from dataclasses import replace

from contracts.names import Color
from deploy.ports import Placement, WorkerState, WorkerStatus
from deploy.rollout.deployment import Deployment, Place, State
from deploy.routing import joined, placements, routing_table

ONE, TWO = Place(1, Color.BLUE, "d1", 2), Place(2, Color.GREEN, "d2", 1)
CANARY = Deployment("m", revision=3, state=State.CANARY, live=ONE, candidate=TWO, weight=100)


def worker(version: int, color: Color, n: int = 0, state: WorkerState = WorkerState.READY) -> WorkerStatus:
    return WorkerStatus(f"m-{version}-{color}-{n}", "m", version, color, state, f"/s/{version}-{n}", 1, 0, "")


def test_a_canary_routes_both_places_with_its_share_and_the_reserved_labels() -> None:
    ready = (worker(1, Color.BLUE), worker(2, Color.GREEN))
    (routes,) = routing_table([CANARY], ready, {"m": {"stable": 1, "old": 9}}).models
    assert [(b.version, b.color, b.endpoints) for b in routes.backends] == [
        (1, Color.BLUE, ("/s/1-0",)),
        (2, Color.GREEN, ("/s/2-0",)),
    ]
    assert (routes.split.blue, routes.split.green) == (9900, 100)
    assert routes.labels == {"stable": 1, "live": 1, "candidate": 2, "blue": 1, "green": 2}


def test_a_warming_candidate_is_nowhere_in_the_table() -> None:
    warming = replace(CANARY, state=State.WARMING, weight=0)
    (routes,) = routing_table([warming], (worker(2, Color.GREEN),), {}).models
    assert [b.version for b in routes.backends] == [1]
    assert "candidate" not in routes.labels
    assert len(placements([warming], str)) == 2


def test_only_a_candidate_that_warms_beside_a_live_version_can_wait_for_the_cores() -> None:
    warming = replace(CANARY, state=State.WARMING, weight=0)
    promoted = Deployment("m", state=State.PROMOTED, live=TWO, previous=ONE, undo_until=1.0)
    assert {p.version: p.gentle for p in placements([warming], str)} == {1: False, 2: True}
    for urgent in (replace(warming, live=None), CANARY, promoted):
        assert not any(p.gentle for p in placements([urgent], str))


def test_the_version_kept_for_undo_stays_reachable_without_a_share() -> None:
    promoted = Deployment("m", state=State.PROMOTED, live=TWO, previous=ONE, undo_until=1.0)
    (routes,) = routing_table([promoted], (worker(1, Color.BLUE), worker(2, Color.GREEN)), {}).models
    assert (routes.split.green, len(routes.backends)) == (10_000, 2)
    assert routes.labels == {"live": 2, "blue": 1, "green": 2}


def test_only_ready_workers_of_this_version_and_place_take_traffic() -> None:
    workers = (
        worker(1, Color.BLUE, 0, WorkerState.WAITING),
        worker(1, Color.BLUE, 10),
        worker(1, Color.BLUE, 2),
        worker(1, Color.BLUE, 3),
        worker(7, Color.BLUE, 0),
        worker(2, Color.GREEN, 0, WorkerState.DRAINING),
    )
    (routes,) = routing_table([CANARY], workers, {}).models
    assert [b.endpoints for b in routes.backends] == [("/s/1-2", "/s/1-3"), ()]


def test_a_model_without_a_live_version_is_not_in_the_table_and_models_are_sorted() -> None:
    absent = Deployment("a")
    other = Deployment("b", state=State.LIVE, live=ONE)
    assert [m.model for m in routing_table([CANARY, other, absent], (), {}).models] == ["b", "m"]


def test_what_envoy_still_uses_is_kept_beside_what_is_wanted_at_the_wider_width() -> None:
    narrow = Placement("m", 1, Color.BLUE, "d1", "/p", replicas=1)
    wide, old = replace(narrow, replicas=3), replace(narrow, version=7)
    assert joined([narrow], [wide, old]) == (wide, old)
    assert joined([wide], [narrow]) == (wide,)
