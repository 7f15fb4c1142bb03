"""The tick: whatever dies or refuses, what was recorded comes into force, and workers leave after their traffic."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import Unavailable
from deploy.ports import Applied, WorkerState
from deploy.rollout.events import Deploy, Observation, Order
from deploy.rollout.moves import UNDO_SECONDS
from deploy.rollout.rules import WARMING_SECONDS, decide
from router.table import RoutingTable
from tests.deploy.plane import Plane, plane, until
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as running:
            await story(running)

    asyncio.run(told())


async def live(p: Plane, version: int = 1, **body: Any) -> None:
    """Deploy `version` and make its workers ready as they come."""
    asked = asyncio.create_task(p.must("m/deploy", version=version, **body))
    await until("workers start", lambda: any(w.version == version for w in p.fleet.workers()))
    p.fleet.ready()
    await asked


def endpoints(p: Plane, version: int) -> tuple[str, ...]:
    return next(b.endpoints for b in p.traffic.table.models[0].backends if b.version == version)


def test_a_dead_worker_leaves_the_table_at_once_and_comes_back(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        await live(p, replicas=2)
        assert len(endpoints(p, 1)) == 2
        p.fleet.die("m-1-blue-0")
        await until("the dead one is out", lambda: endpoints(p, 1) == ("/run/m-1-blue-1.sock",))
        p.fleet.die("m-1-blue-1")
        await until("nobody is left, and Envoy knows", lambda: endpoints(p, 1) == ())
        p.fleet.ready()
        await until("both are back", lambda: len(endpoints(p, 1)) == 2)

    drive(tmp_path, story, instantly=False)


def test_workers_drain_only_after_envoy_routes_around_them(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await live(p, 1)
        await live(p, 2, strategy="manual")
        p.traffic.silent = True
        answer = await p.post("m/abort")
        assert answer.status_code == 503
        assert all(w.state is WorkerState.READY for w in p.fleet.workers()), "Envoy may still send to both"
        p.traffic.silent = False
        await until(
            "the candidate drains",
            lambda: {w.version: w.state for w in p.fleet.workers()} == {1: WorkerState.READY, 2: WorkerState.DRAINING},
        )
        assert [b.version for b in p.traffic.table.models[0].backends] == [1]

    drive(tmp_path, story, instantly=False, ack_seconds=0.05)


def test_fewer_replicas_lose_their_traffic_before_they_are_drained(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        await live(p, 1, replicas=3)
        await p.must("m/deploy", version=1, replicas=1)
        assert endpoints(p, 1) == ("/run/m-1-blue-0.sock",)
        assert [w.state for w in p.fleet.workers()] == [WorkerState.READY, WorkerState.DRAINING, WorkerState.DRAINING]

    drive(tmp_path, story, instantly=False)


def test_a_refused_publish_is_the_reason_shown_and_is_tried_until_it_works(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        p.traffic.refuse = "route: no such cluster"
        asked = asyncio.create_task(p.post("m/deploy"))
        await until("it is recorded and refused", lambda: p.store.deployment("m").live and p.reconciler.problem)
        status = await p.status()
        assert "no such cluster" in status["rollout"]["reason"]
        assert status["applied"] is None or status["applied"]["revision"] < status["revision"]
        p.traffic.refuse = None
        assert (await asked).json()["live"]["version"] == 1

    drive(tmp_path, story)


def test_a_command_recorded_before_a_crash_is_in_force_after_the_restart(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, traffic = FakeFleet(instantly=True), FakeTraffic()
        async with plane(tmp_path, fleet=fleet, traffic=traffic) as p:
            p.versions("m", 2)
            await p.must("m/deploy", version=1)
            await p.must("m/deploy", version=2, strategy="manual")
            traffic.silent = True
            asked = asyncio.create_task(p.post("m/weight", percent=25))
            await until("it is recorded", lambda: p.store.deployment("m").weight == 2500)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        traffic.silent = False
        published = len(traffic.tables)
        async with plane(tmp_path, fleet=fleet, traffic=traffic) as p:
            await until("the weight is in force", lambda: p.reconciler.applied_of("m"))
            assert traffic.table.models[0].split.green == 2500
            assert len(traffic.tables) == published + 1
            assert {w.restarts for w in fleet.workers()} == {0}

    asyncio.run(story())


def test_after_a_restart_the_first_table_holds_the_endpoints_that_live(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = FakeFleet(instantly=True)
        async with plane(tmp_path, fleet=fleet) as p:
            p.versions("m", 1)
            await p.must("m/deploy")
        async with plane(tmp_path, fleet=fleet, ticking=False) as p:
            assert p.reconciler.first_table().models[0].backends[0].endpoints == ("/run/m-1-blue-0.sock",)

    asyncio.run(story())


def test_workers_an_old_envoy_may_use_outlive_the_first_publish_of_the_next_control_plane(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, traffic = FakeFleet(instantly=True), FakeTraffic()
        async with plane(tmp_path, fleet=fleet, traffic=traffic) as p:
            p.versions("m", 1)
            await p.must("m/deploy")
        async with plane(tmp_path, fleet=fleet, traffic=traffic, ack_seconds=0.05) as p:
            traffic.silent = True
            assert (await p.post("m/drain")).status_code == 503
            assert len(fleet.workers()) == 1, "Envoy still routes to it"
            traffic.silent = False
            await until("it is gone", lambda: not fleet.workers())
            assert traffic.table.models == ()

    asyncio.run(story())


def test_a_version_that_never_gets_ready_is_given_up_by_the_monotonic_clock(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        asked = asyncio.create_task(p.post("m/deploy"))
        await until("it starts", p.fleet.workers)
        await p.reconciler.next_tick(20)
        p.clock.move(WARMING_SECONDS)
        p.reconciler.ring()
        answer = await asked
        assert answer.status_code == 503
        assert "not ready after 15 minutes: loading the model" in answer.json()["error"]
        assert (await p.status())["live"] is None

    drive(tmp_path, story, instantly=False)


def test_the_version_kept_for_undo_is_released_when_its_window_is_over(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        await p.must("m/promote")
        assert {w.version for w in p.fleet.workers()} == {1, 2}
        p.clock.move(UNDO_SECONDS)
        p.reconciler.ring()
        await until("version 1 is gone", lambda: {w.version for w in p.fleet.workers()} == {2})
        history = await p.get("/api/v1/models/m/history")
        assert (history["events"][0]["actor"], history["events"][0]["action"]) == ("teal", "release")

    drive(tmp_path, story)


def test_a_hundred_commands_at_once_are_all_answered_and_none_is_lost(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        answers = await asyncio.gather(*(p.post("m/weight", percent=n) for n in range(1, 101)))
        assert {a.status_code for a in answers} == {200}
        history = await p.get("/api/v1/models/m/history?limit=1000")
        weights = [e for e in history["events"] if e["action"] == "weight"]
        assert len(weights) == 100
        assert p.traffic.table.models[0].split.green == weights[0]["after"]["weight"]

    drive(tmp_path, story)


def test_one_model_that_cannot_warm_holds_up_no_other(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        p.versions("other", 1)
        stuck = asyncio.create_task(p.post("m/deploy"))
        await until("m starts", p.fleet.workers)
        second = asyncio.create_task(p.post("other/deploy"))
        await until("other starts", lambda: len(p.fleet.workers()) == 2)
        p.fleet.ready("other")
        assert (await second).status_code == 200
        assert not stuck.done()
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)

    drive(tmp_path, story, instantly=False)


class _SlowToDrain(FakeTraffic):
    """Accepts a table at once and then waits for old requests that do not end."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = False

    async def publish(self, table: RoutingTable) -> Applied:
        applied = await super().publish(table)
        if self.hold:
            await asyncio.Event().wait()
        return applied


def test_a_publish_that_waits_for_old_requests_gives_way_to_a_restarted_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.reconcile.UNDISTURBED_SECONDS", 0.01)
    traffic = _SlowToDrain()

    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await live(p, 1)
        await live(p, 2, strategy="manual")
        await p.must("m/weight", percent=50)
        traffic.hold = True
        asked = asyncio.create_task(p.post("m/abort"))
        await until("the abort is out", lambda: len(traffic.table.models[0].backends) == 1)
        p.fleet.die("m-1-blue-0")
        await until("the death is out, too", lambda: endpoints(p, 1) == ())
        assert not asked.done()
        traffic.hold = False
        p.fleet.ready()
        assert (await asked).status_code == 200

    drive(tmp_path, story, instantly=False, traffic=traffic)


def test_a_full_disk_stops_decisions_but_not_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await live(p, 1, replicas=2)
        asked = asyncio.create_task(p.post("m/deploy", version=2, strategy="manual"))
        await until("the candidate starts", lambda: len(p.fleet.workers()) == 4)

        def full(*_args: object, **_named: object) -> None:
            raise Unavailable("no space left to record this")

        monkeypatch.setattr(p.store, "change_all", full)
        p.fleet.ready()
        await until("it is said", lambda: "no space left" in (p.reconciler.problem or ""))
        p.fleet.die("m-1-blue-0")
        await until("the table still follows the workers", lambda: len(endpoints(p, 1)) == 1)
        monkeypatch.undo()
        p.reconciler.ring()
        assert (await asked).json()["candidate"]["version"] == 2

    drive(tmp_path, story, instantly=False)


def test_a_deploy_recorded_elsewhere_is_taken_up_without_being_told(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        order = Order(Deploy(1, "0" * 64), Observation())
        p.store.change("m", lambda d, _v: decide(d, order, p.clock.wall()), actor="x", at=p.clock.wall())
        await until("it is live", lambda: p.traffic.table.models)

    drive(tmp_path, story)
