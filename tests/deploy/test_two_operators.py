"""Two operators at once, and a controller that decides between them: one history, in which each change begins where the
one before it ended, and abort wins."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, permutations
from pathlib import Path
from threading import Barrier

import pytest

from contracts.errors import Conflict
from deploy.audit.observations import Seen
from deploy.audit.verify import verify
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Command, Deploy, Observation, Order, Plain, Verb
from deploy.rollout.moves import Decision
from deploy.rollout.plan import Strategy
from deploy.rollout.rules import decide
from deploy.store.database import sqlite_url
from deploy.store.standing import Author
from deploy.store.store import Store
from tests.deploy.audit.story import PLAN, begin, serve
from tests.deploy.plane import Plane, add_versions, plane
from tests.deploy.plane import until as eventually
from tests.deploy.rollout.simulated import look
from tests.deploy.shelf import WELL

PROMOTE, ABORT, PAUSE = Plain(Verb.PROMOTE, override=True), Plain(Verb.ABORT), Plain(Verb.PAUSE)
ROUNDS = 25


def say(store: Store, model: str, command: Command, revision: int | None = None) -> Decision:
    order = Order(command, WELL, expected_revision=revision)
    return store.change(model, lambda d, _v: decide(d, order, 1.0), actor=command.verb.value, at=1.0)


def tick(store: Store, model: str, seen: Observation = WELL) -> None:
    def rule(d: Deployment) -> tuple[Decision, Seen]:
        return decide(d, seen, 1.0), Seen(1.0, seen)

    store.change_all([model], rule, author=Author("teal", 1.0))


def on_trial(store: Store, model: str) -> int:
    """A candidate at its first step; returns the revision that both operators look at."""
    add_versions(store, model, 2)
    for version in (1, 2):
        say(store, model, Deploy(version, f"{version:064x}", Strategy.CANARY, plan=PLAN))
        tick(store, model)
    return store.deployment(model).revision


def check(store: Store, model: str) -> list[str]:
    """The history is one line of changes; returns the actions, oldest first."""
    changes = [(e.action, e.before, e.after) for e in reversed(store.history(model)) if e.before and e.after]
    for (_, _, former), (_, before, after) in pairwise(changes):
        assert before["revision"] == former["revision"]
        assert after["revision"] == before["revision"] + 1
        assert all(before[of] == former[of] for of in ("state", "live", "candidate", "previous", "weight"))
    with store.audited() as record:
        assert verify(record, model).wrong == []
    return [action for action, _, _ in changes]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "state.db"))


@pytest.mark.parametrize("order", list(permutations(("promote", "abort", "pause", "tick"))))
def test_in_every_order_abort_wins_and_the_loser_is_told_the_new_revision(store: Store, order: tuple[str, ...]) -> None:
    revision = on_trial(store, "m")
    commands = {"promote": PROMOTE, "abort": ABORT, "pause": PAUSE}
    for what in order:
        before = store.deployment("m").revision
        if what == "tick":
            tick(store, "m", look(None))
            continue
        try:
            say(store, "m", commands[what], revision if what == "promote" else None)
        except Conflict as refused:
            assert what != "abort", "abort is never refused"
            if what == "promote" and before != revision:
                assert f"revision {before}" in refused.message or "no candidate" in refused.message
    end = store.deployment("m")
    assert end.live is not None
    assert (end.live.version, end.weight) == (1, 0)
    check(store, "m")


def test_at_the_same_moment_over_a_real_database_there_is_one_history_and_abort_wins(
    store: Store, tmp_path: Path
) -> None:
    other, third = Store(sqlite_url(tmp_path / "state.db")), Store(sqlite_url(tmp_path / "state.db"))
    starts = {f"m{n}": 0 for n in range(ROUNDS)}
    for model in starts:
        starts[model] = on_trial(store, model)
    together = Barrier(3)

    def promote(model: str) -> str:
        together.wait()
        try:
            say(store, model, PROMOTE, starts[model])
        except Conflict:
            return "refused"
        return "promoted"

    def abort(model: str) -> str:
        together.wait()
        return say(other, model, ABORT).deployment.state.value

    def watch(model: str) -> str:
        together.wait()
        tick(third, model, look(None))
        return "watched"

    with ThreadPoolExecutor(3) as crowd:
        for model in starts:
            said = list(crowd.map(lambda act, m=model: act(m), (promote, abort, watch)))
            end = store.deployment(model)
            assert end.live is not None
            assert (end.live.version, end.weight) == (1, 0), said
            assert check(store, model)[4:] == (["promote", "abort"] if said[0] == "promoted" else ["abort"])


def test_abort_wins_over_a_switch_that_envoy_has_not_acknowledged(tmp_path: Path) -> None:
    async def story() -> None:
        async with plane(tmp_path, ack_seconds=0.05) as p:
            await begin(p)
            while p.store.deployment("m").weight < 5000:
                await _tick(p)
            p.traffic.silent = True
            while p.store.deployment("m").state is not State.BAKING:
                serve(p)
                p.reconciler.ring()
                await asyncio.sleep(0.01)
            assert (await p.post("m/abort")).status_code == 503, "recorded, and Envoy does not answer"
            p.traffic.silent = False
            await eventually("all traffic is back", lambda: p.traffic.table.models[0].split.green == 0)
            assert 9500 not in {t.models[0].split.green for t in p.traffic.tables if t.models}
            assert check(p.store, "m")[-2:] == ["cutover", "abort"]

    asyncio.run(story())


def test_who_promoted_and_was_overruled_is_told_with_the_new_revision(tmp_path: Path) -> None:
    async def story() -> None:
        async with plane(tmp_path) as p:
            await begin(p)
            p.traffic.silent = True
            promoting = asyncio.create_task(p.post("m/promote", override=True))
            await eventually("it is recorded", lambda: p.store.deployment("m").state is State.PROMOTED)
            aborting = asyncio.create_task(p.post("m/abort"))
            await eventually("so is the abort", lambda: p.store.deployment("m").state is State.UNDONE)
            p.traffic.silent = False
            promoted, aborted = await asyncio.gather(promoting, aborting)
            assert (promoted.status_code, aborted.status_code) == (409, 200)
            assert f"revision {p.store.deployment('m').revision}" in promoted.json()["error"]

    asyncio.run(story())


async def _tick(p: Plane) -> None:
    serve(p)
    await p.reconciler.next_tick(20)
