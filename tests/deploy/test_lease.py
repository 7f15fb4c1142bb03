"""Of several control planes on one database one decides, and who was replaced without noticing writes nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import Unavailable
from deploy.audit.observations import unpacked
from deploy.audit.verify import verify
from deploy.lease import LEASE_SECONDS, Lease
from deploy.rollout.deployment import State
from deploy.rollout.events import Deploy, Order, Plain, Verb
from deploy.rollout.plan import Strategy
from deploy.rollout.rules import decide
from deploy.store.leases import Tenure
from tests.deploy.audit.story import PLAN, REQUESTS, serve
from tests.deploy.plane import BOUND, Plane, plane, until
from tests.deploy.shelf import WELL
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters


class Memory:
    """Leases in memory."""

    def __init__(self) -> None:
        self.now: Tenure | None = None
        self.broken = False

    def tenure(self) -> Tenure | None:
        return self.now

    def succeed(self, former: Tenure | None, following: Tenure) -> bool:
        if self.broken:
            raise Unavailable("no space left")
        if former != self.now:
            return False
        self.now = following
        return True


def keep(lease: Lease) -> bool:
    return asyncio.run(lease.keep())


@pytest.fixture
def memory() -> Memory:
    return Memory()


def leases(memory: Memory) -> tuple[Lease, Lease, HandClock]:
    clock = HandClock()
    return Lease(memory, clock, holder="a"), Lease(memory, clock, holder="b"), clock


def test_the_first_one_leads_and_the_second_waits_until_the_lease_is_over(memory: Memory) -> None:
    a, b, clock = leases(memory)
    assert (keep(a), keep(b)) == (True, False)
    clock.move(LEASE_SECONDS - 0.1)
    assert not keep(b)
    clock.move(0.1)
    assert keep(b)
    assert (keep(a), a.epoch, b.epoch) == (False, 1, 2)


def test_who_renews_keeps_it_and_its_epoch(memory: Memory) -> None:
    a, b, clock = leases(memory)
    for _ in range(20):
        assert (keep(a), keep(b)) == (True, False)
        clock.move(LEASE_SECONDS / 3)
    assert (a.epoch, b.epoch) == (1, 0)


def test_without_a_renewal_one_stops_believing_in_itself_after_half_of_it(memory: Memory) -> None:
    a, _, clock = leases(memory)
    keep(a)
    memory.broken = True
    clock.move(LEASE_SECONDS / 2 - 0.1)
    assert keep(a)
    clock.move(0.2)
    with pytest.raises(Unavailable, match="no space"):
        keep(a)
    assert not a.leads
    memory.broken = False
    assert keep(a)
    assert a.epoch == 1, "nobody took it meanwhile"


def test_a_restart_in_the_same_home_takes_over_at_once_with_a_new_epoch(memory: Memory) -> None:
    a, _, clock = leases(memory)
    keep(a)
    again = Lease(memory, clock, holder="a")
    assert keep(again)
    assert again.epoch == 2
    clock.move(LEASE_SECONDS / 3)
    assert not keep(a)


def test_a_wall_clock_that_is_far_ahead_keeps_nobody_from_taking_over(memory: Memory) -> None:
    memory.now = Tenure("gone", 7, HandClock().wall() + 1e6)
    _, b, clock = leases(memory)
    assert not keep(b)
    clock.move(LEASE_SECONDS)
    assert keep(b)
    assert b.epoch == 8


# ---- whole control planes


@asynccontextmanager
async def two(path: Path) -> AsyncIterator[tuple[Plane, Plane]]:
    """Two homes on one database; each has an Envoy and workers of its own, and both see the same counters."""
    clock, counters = HandClock(), FakeCounters()
    (path / "a").mkdir()
    (path / "b").mkdir()
    (path / "b" / "state.db").symlink_to(path / "a" / "state.db")
    alike = {"clock": clock, "counters": counters, "ticking": False}
    async with plane(path / "a", owner="a", **alike) as a, plane(path / "b", owner="b", **alike) as b:
        yield a, b


async def both(a: Plane, b: Plane, times: int = 1) -> None:
    for _ in range(times):
        await a.reconciler.tick()
        await b.reconciler.tick()


async def deployed(a: Plane, b: Plane) -> None:
    """Version 1 is live on both, version 2 at the first step of its plan."""
    a.versions("m", 2)
    for version in (1, 2):
        change(a, Deploy(version, f"{version - 1:064x}", Strategy.CANARY, plan=PLAN))
        await both(a, b, 3)
    assert a.store.deployment("m").trial is not None


def change(p: Plane, command: Deploy | Plain) -> None:
    now = p.clock.wall()
    p.store.change("m", lambda d, _v: decide(d, Order(command, WELL), now), actor="x", at=now)


def history(p: Plane) -> list[tuple[str, str]]:
    return [(event.action, event.hash) for event in p.store.history("m")]


def test_one_of_two_decides_and_the_other_does_as_it_decided(tmp_path: Path) -> None:
    async def story() -> None:
        async with two(tmp_path) as (a, b):
            await deployed(a, b)
            for _ in range(30):
                serve(a)
                await both(a, b)
            assert (a.reconciler.leader, b.reconciler.leader) == (True, False)
            assert b.store.deployment("m").state is State.PROMOTED
            assert a.traffic.table.models[0].split == b.traffic.table.models[0].split
            assert {w.version for w in b.fleet.workers()} == {1, 2}, "each has workers of its own"
            decided = [e.evidence for e in a.store.history("m") if e.actor == "teal"]
            assert {told["epoch"] for told in decided if told} == {1}
            assert b.reconciler.fenced_writes == 0

    asyncio.run(story())


def test_an_operator_may_speak_to_either_and_both_obey(tmp_path: Path) -> None:
    async def story() -> None:
        async with two(tmp_path) as (a, b):
            await deployed(a, b)
            change(b, Plain(Verb.ABORT))
            await both(a, b)
            assert not a.reconciler.leader or not b.reconciler.leader
            for p in (a, b):
                assert p.traffic.table.models[0].split.green == 0
                assert {w.version for w in p.fleet.workers()} == {1}

    asyncio.run(story())


def test_a_leader_that_froze_is_replaced_and_writes_nothing_and_publishes_nothing_of_its_own_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with two(tmp_path) as (a, b):
            await deployed(a, b)
            serve(a)
            await both(a, b)
            # It freezes having looked and decided to write, and before it has written.
            frozen, woken, record = threading.Event(), threading.Event(), a.store.change_all

            def freeze(*args: Any, **named: Any) -> Any:
                frozen.set()
                woken.wait(BOUND)
                return record(*args, **named)

            monkeypatch.setattr(a.store, "change_all", freeze)
            serve(a)
            asleep = asyncio.create_task(a.reconciler.tick())
            await until("it froze", frozen.is_set)
            a.clock.move(LEASE_SECONDS)
            for _ in range(6):
                serve(b, failing=0.5)
                await b.reconciler.tick()
            assert b.reconciler.epoch == 2
            assert b.store.deployment("m").state is State.ROLLED_BACK
            before, published = history(b), len(a.traffic.tables)
            woken.set()
            await asleep
            assert (a.reconciler.fenced_writes, a.reconciler.leader, b.reconciler.leader) == (1, False, True)
            assert history(b) == before
            assert [t.models[0].split.green for t in a.traffic.tables[published:]] == [0], "what the other one decided"
            with b.store.audited() as record_of_both:
                assert verify(record_of_both).wrong == []

    asyncio.run(story())


def test_who_takes_over_begins_to_look_anew_and_uses_nothing_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with two(tmp_path) as (a, b):
            await deployed(a, b)
            for _ in range(2):
                serve(a)
                await both(a, b)
            first = a.store.deployment("m")
            a.clock.move(LEASE_SECONDS)
            await b.reconciler.tick()
            assert b.reconciler.leader
            taken = b.store.deployment("m")
            assert (taken.weight, taken.state) == (first.weight, first.state), "never ahead in the first tick"
            for _ in range(6):
                serve(b)
                await b.reconciler.tick()
            b.clock.move(LEASE_SECONDS)
            await a.reconciler.tick()  # the first one learns that it was replaced,
            await a.reconciler.tick()  # and is back, with a last look of long ago
            assert a.reconciler.epoch == 3
            serve(a)
            await a.reconciler.tick()
            assert consumed(a) <= REQUESTS * 9

    asyncio.run(story())


def consumed(p: Plane) -> int:
    """Requests in all observations that were kept."""
    with p.store.audited() as record:
        bodies = [kept.body for seq in range(100) for kept in record.observations(seq)]
    counted = [unpacked(body).observation.counted for body in bodies]
    return sum(c.errors.live.units + c.errors.candidate.units for c in counted if c is not None)
