"""Rollouts by evidence through the whole control plane: what callers got decides, and nothing else does."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.deploy.plane import BOUND, Plane, plane
from tests.fakes.counters import FakeCounters
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic

TICK = 5.0
REQUESTS = 2000  # a tick's, of both versions together


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as running:
            await canary(running)
            await story(running)

    asyncio.run(told())


async def canary(p: Plane) -> None:
    p.versions("m", 2)
    await p.must("m/deploy", version=1)
    await p.must("m/deploy", version=2, strategy="canary")


async def tick(p: Plane, *, failing: float = 0.0, slow: float = 0.002, traffic: bool = True) -> Any:
    """Five seconds in which callers are served by the weights in force; then the control plane looks."""
    weight = p.traffic.table.models[0].split.green / 10_000
    if traffic:
        there = round(REQUESTS * weight)
        p.counters.answer("m", 1, REQUESTS - there, failed=round((REQUESTS - there) * 0.001))
        p.counters.answer("m", 2, there, failed=round(there * failing), seconds=slow)
    p.clock.move(TICK)
    await p.reconciler.next_tick(BOUND)
    return (await p.status())["rollout"]


async def until_state(p: Plane, *states: str, most: int = 400, **served: Any) -> tuple[Any, list[str]]:
    """The rollout once it is in one of `states`, and every step it was at."""
    seen: list[str] = []
    for _ in range(most):
        rollout = await tick(p, **served)
        step = f"{rollout['state']} {rollout['step']}"
        if not seen or seen[-1] != step:
            seen.append(step)
        if rollout["state"] in states:
            return rollout, seen
    raise AssertionError(f"never {states}: {seen}")


def test_a_healthy_candidate_climbs_every_step_and_becomes_live(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        _, seen = await until_state(p, "promoted", failing=0.001)
        assert seen == ["canary 1 %", "canary 5 %", "canary 10 %", "canary 25 %", "canary 50 %", "baking 95 %",
                        "promoted None"]  # fmt: skip
        status = await p.status()
        assert (status["live"]["version"], status["previous"]["version"]) == (2, 1)

    drive(tmp_path, story)


def test_a_candidate_that_fails_is_rolled_back_with_the_counts_that_decided(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        rollout, _ = await until_state(p, "rolled_back", failing=0.2)
        assert "errors of the candidate are worse" in rollout["reason"]
        assert p.traffic.table.models[0].split.blue == 10_000

    drive(tmp_path, story)


def test_a_candidate_that_is_slower_is_rolled_back(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        rollout, _ = await until_state(p, "rolled_back", failing=0.001, slow=0.02)
        assert "latency of the candidate" in rollout["reason"]

    drive(tmp_path, story)


def test_without_a_source_of_evidence_a_rollout_stands_still_and_says_why(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await tick(p)
        p.counters.broken = "Envoy's admin did not answer"
        rollout, _ = await until_state(p, "blind", most=20)
        assert "Envoy's admin did not answer" in rollout["reason"]
        for _ in range(200):
            rollout = await tick(p)
            assert (rollout["state"], rollout["step"]) == ("blind", "1 %")
        p.counters.broken = None
        rollout, _ = await until_state(p, "canary", most=5)

    drive(tmp_path, story)


def test_without_traffic_it_waits_until_its_deadline_and_asks_an_operator(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        rollout, seen = await until_state(p, "inconclusive", most=2000, traffic=False)
        assert "0 of 20 requests" in rollout["reason"]
        assert seen == ["canary 1 %", "inconclusive 1 %"]

    drive(tmp_path, story)


def test_a_candidate_whose_only_worker_dies_is_rolled_back_at_once(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.fleet.die("m-2-green-0")
        await p.reconciler.next_tick(BOUND)
        status = await p.status()
        assert status["rollout"]["state"] == "rolled_back"
        assert "no ready worker" in status["rollout"]["reason"]

    drive(tmp_path, story)


def test_a_restart_uses_no_block_twice_and_never_advances_on_its_first_look(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, traffic, counters = FakeFleet(instantly=True), FakeTraffic(), FakeCounters()
        async with plane(tmp_path, fleet=fleet, traffic=traffic, counters=counters) as p:
            await canary(p)
            for _ in range(5):
                await tick(p)
            before = p.store.deployment("m")
        async with plane(tmp_path, fleet=fleet, traffic=traffic, counters=counters) as p:
            await p.reconciler.next_tick(BOUND)
            after = p.store.deployment("m")
            assert after.trial is not None
            assert before.trial is not None
            assert after.trial.counted == before.trial.counted
            assert after.trial.findings == before.trial.findings
            assert after.weight == before.weight

    asyncio.run(story())


def test_counters_that_begin_anew_count_from_there(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        for _ in range(3):
            await tick(p)
        counted = p.store.deployment("m").trial.counted.errors.live.units  # type: ignore[union-attr]
        p.counters.restart("m", 1)
        await tick(p)
        again = p.store.deployment("m").trial.counted.errors.live.units  # type: ignore[union-attr]
        assert again - counted == 1980

    drive(tmp_path, story)


def test_harm_rolls_back_a_paused_rollout_too(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await tick(p)
        assert (await p.must("m/pause"))["rollout"]["state"] == "paused"
        rollout, _ = await until_state(p, "rolled_back", failing=0.3)
        assert "errors" in rollout["reason"]

    drive(tmp_path, story)
