"""The real Envoy under load: publishing loses no request, and a failed publish changes nothing."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import httpx
import pytest

from contracts.names import Color
from router import bootstrap
from router.errors import PublishRefused, PublishTimedOut
from router.naming import PREDICT as PREDICT_KIND
from router.naming import version_of
from router.publisher import Patience
from router.router import Router
from router.table import Backend, ModelRoutes
from tests.router.callers import PREDICT, Callers, calling, versions_of_keys
from tests.router.gateway import Gateway, alone, backend, both, gateway, table, until

pytestmark = pytest.mark.e2e


async def two_versions(g: Gateway) -> tuple[Backend, Backend]:
    return backend(1, Color.BLUE, await g.worker("one")), backend(2, Color.GREEN, await g.worker("two"))


async def at(g: Gateway, blue: Backend, green: Backend, percent: int) -> None:
    await g.router.publish(table(both("digits", blue, green, percent)))


async def answered(callers: Callers, more: int = 50) -> None:
    """Until the callers have had `more` further answers."""
    mark = callers.mark()
    await until(lambda: len(callers.since(mark)) >= more)


def test_a_hundred_weight_changes_under_load_lose_nothing_and_zero_means_zero() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 0)
            forbidden = []
            async with calling(g.config.port) as callers:
                for change in range(100):
                    percent = (10, 50, 100, 0)[change % 4]
                    await at(g, blue, green, percent)
                    mark = callers.mark()
                    await answered(callers, 10)
                    gone = {0: "2", 100: "1"}.get(percent)
                    # Not even late answers to requests from before: publish waited for those.
                    forbidden += [s for s in callers.since(mark) if s.version == gone]
            assert callers.failures == {}
            assert forbidden == []
            assert set(callers.versions) == {"1", "2"}

    asyncio.run(story())


def test_replacing_a_version_under_load_warms_the_next_before_and_drains_the_last() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            third = backend(3, Color.GREEN, await g.worker("three"))
            for worker in g.workers:
                worker.behaviour.delay = 0.05
            await at(g, blue, green, 100)
            async with calling(g.config.port) as callers:
                for candidate in (third, green, third):
                    await answered(callers)
                    await at(g, blue, candidate, 0)
                    await answered(callers)
                    await at(g, blue, candidate, 100)
            assert callers.failures == {}
            left = {version_of(name) for name in await g.router.admin.clusters()}
            assert left == {"digits version 1 (blue)", "digits version 3 (green)"}
            assert await g.router.admin.warming() == 0

    asyncio.run(story())


def test_a_share_is_what_callers_get() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 25)
            async with calling(g.config.port, rate=600) as callers:
                await until(lambda: callers.versions.total() >= 2000, 30)
            n, seen = callers.versions.total(), callers.versions["2"]
            assert abs(seen / n - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n)  # five standard deviations
            facts = await g.clusters(PREDICT_KIND)
            counted = {name.split("|")[4]: fact.requests for name, fact in facts.items()}
            assert counted == {"blue": n - seen, "green": seen}

    asyncio.run(story())


async def greens(g: Gateway, keys: int) -> set[int]:
    """The keys of which version 2, the green one, answers."""
    return {key for key, version in enumerate(await versions_of_keys(g.config.port, keys)) if version == "2"}


def test_raising_a_share_never_takes_a_key_back_and_returning_restores_the_very_same_keys() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            keys, seen = 2000, {}
            for step, percent in enumerate((10, 25, 10, 0, 100)):
                await at(g, blue, green, percent)
                seen[step] = await greens(g, keys)
            assert 120 <= len(seen[0]) <= 280
            assert seen[0] < seen[1]
            assert seen[2] == seen[0]
            assert (seen[3], seen[4]) == (set(), set(range(keys)))

    asyncio.run(story())


def test_a_refused_table_raises_envoys_words_and_traffic_goes_on() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 50)
            unusable = backend(3, Color.GREEN, "/" + "x" * 200)  # longer than any Unix socket path
            async with calling(g.config.port) as callers:
                await answered(callers)
                with pytest.raises(PublishRefused, match=r"(?i)envoy refused endpoints: .*(path|length)"):
                    await at(g, blue, unusable, 50)
                mark = callers.mark()
                await answered(callers)
                assert callers.versions_since(mark) == {"1", "2"}
                await at(g, blue, green, 0)
            assert callers.failures == {}
            assert [kind for kind, _ in g.observer.refusals] == ["endpoints"]
            assert len(await g.clusters(PREDICT_KIND)) == 2

    asyncio.run(story())


def test_traffic_does_not_move_to_a_version_whose_worker_never_becomes_healthy() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(alone("digits", blue)))
            g.workers[1].behaviour.ready = False
            impatient = await again(g, Patience(warm=1))
            await impatient.publish(table(alone("digits", blue)))
            with pytest.raises(PublishTimedOut, match=r"no worker of digits version 2 \(green\) passed a health check"):
                await impatient.publish(table(both("digits", blue, green, 100)))
            assert (await g.post(PREDICT)).headers["x-teal-version"] == "1"
            g.workers[1].behaviour.ready = True
            await impatient.publish(table(both("digits", blue, green, 100)))
            assert (await g.post(PREDICT)).headers["x-teal-version"] == "2"

    asyncio.run(story())


def test_at_the_first_publish_one_broken_model_does_not_keep_the_others_from_being_served() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            g.workers[1].behaviour.ready = False
            hasty = await again(g, Patience(warm=1))
            await hasty.publish(table(alone("broken", green), alone("digits", blue)))
            assert (await g.post(PREDICT)).status_code == 200
            assert (await g.post("/v1/models/broken:predict")).status_code == 503

    asyncio.run(story())


def test_weights_can_change_while_callers_hold_every_connection() -> None:
    async def story() -> None:
        async with gateway(max_connections=4) as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 0)
            held = await asyncio.open_connection("127.0.0.1", g.config.port)
            hogs = [await asyncio.open_connection("127.0.0.1", g.config.port) for _ in range(6)]
            await again(g, Patience(settle=0.5))
            await at(g, blue, green, 100)
            for _, writer in [held, *hogs]:
                writer.close()
            await until(lambda: answered_by(g, "2"))

    asyncio.run(story())


async def answered_by(g: Gateway, version: str) -> bool:
    try:
        return (await g.post(PREDICT)).headers.get("x-teal-version") == version
    except httpx.TransportError:  # Envoy closes what is over its limit of connections
        return False


async def again(g: Gateway, patience: Patience) -> Router:
    """Another router in place of the present one."""
    await g.router.stop()
    g.router = Router(g.config, observer=g.observer, patience=patience)
    await g.router.start()
    return g.router


def test_without_envoy_a_publish_times_out_and_one_that_connects_meanwhile_gets_the_table() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.kill_envoy()
            blue, green = await two_versions(g)
            wanted = table(both("digits", blue, green, 0))
            impatient = await again(g, Patience(ack=0.3))
            with pytest.raises(PublishTimedOut, match="no Envoy connected within"):
                await impatient.publish(wanted)
            await again(g, Patience())
            publishing = asyncio.create_task(g.router.publish(wanted))
            await g.start_envoy()
            await publishing
            assert (await g.post(PREDICT)).status_code == 200

    asyncio.run(story())


def test_traffic_runs_on_without_a_control_plane_and_the_next_one_sends_nothing_again() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 30)
            async with calling(g.config.port) as callers:
                await answered(callers)
                await g.router.stop()
                await answered(callers, 200)
                before = await updates(g)
                await g.restart_control_plane()
                await at(g, blue, green, 30)
                await answered(callers)
                assert await updates(g) == before
                await at(g, blue, green, 60)
                assert await updates(g) != before
            assert callers.failures == {}
            assert set(callers.versions) == {"1", "2"}

    asyncio.run(story())


async def updates(g: Gateway) -> list[str]:
    """What Envoy counts of configurations it was given, asked without a router."""
    transport = httpx.AsyncHTTPTransport(uds=g.config.admin_socket)
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy") as admin:
        said = await admin.get(
            "/stats", params={"filter": r"(cds|rds\.teal|predict.*)\.update_(success|rejected)|runtime.load_success$"}
        )
    return sorted(said.text.splitlines())


def test_a_control_plane_that_lost_time_brings_envoy_to_its_table_without_a_failure() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            third = backend(3, Color.GREEN, await g.worker("three"))
            await at(g, blue, green, 50)
            async with calling(g.config.port) as callers:
                await answered(callers)
                await g.restart_control_plane()
                await at(g, blue, third, 50)
                mark = callers.mark()
                await answered(callers, 60)
            assert callers.failures == {}
            assert callers.versions_since(mark) == {"1", "3"}
            assert len(await g.clusters(PREDICT_KIND)) == 2

    asyncio.run(story())


def test_a_killed_envoy_comes_back_with_the_same_table() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 100)
            await g.kill_envoy()
            await g.start_envoy()
            await until(g.router.admin.ready)
            answers = [await g.post(PREDICT) for _ in range(20)]
            assert {(a.status_code, a.headers["x-teal-version"]) for a in answers} == {(200, "2")}
            await at(g, blue, green, 0)
            assert (await g.post(PREDICT)).headers["x-teal-version"] == "1"

    asyncio.run(story())


def test_one_of_two_workers_dies_and_nobody_notices() -> None:
    async def story() -> None:
        async with gateway() as g:
            first, second = await g.worker("first"), await g.worker("second")
            first.behaviour.delay = second.behaviour.delay = 0.02  # so that requests are under way when it dies
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, first, second))))
            async with calling(g.config.port) as callers:
                await answered(callers, 100)
                await first.die()
                await answered(callers, 400)
            assert callers.failures == {}
            await first.start()
            asked = len(first.seen)
            async with calling(g.config.port) as callers:
                await until(lambda: len(first.seen) > asked)
            assert callers.failures == {}

    asyncio.run(story())


def test_when_the_only_worker_is_dead_callers_are_told_at_once_when_to_come_back() -> None:
    async def story() -> None:
        async with gateway() as g:
            only = await g.worker("only")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, only))))
            await only.die()
            loop, slowest = asyncio.get_running_loop(), 0.0

            async def no_worker_left() -> bool:
                nonlocal slowest
                since = loop.time()
                answer = await g.post(PREDICT)
                slowest = max(slowest, loop.time() - since)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.headers["x-teal-version"] == "1"
                return "no worker of this model version is ready" in answer.json()["error"]

            await until(no_worker_left)
            assert slowest < 1  # far below the time-out: nobody waited for anything
            await only.start()
            await until(answers_with(g, 200))

    asyncio.run(story())


def answers_with(g: Gateway, status: int) -> Callable[[], Awaitable[bool]]:
    async def claim() -> bool:
        return (await g.post(PREDICT)).status_code == status

    return claim


def test_a_worker_that_left_the_table_gets_nothing_more_although_it_is_healthy() -> None:
    async def story() -> None:
        async with gateway() as g:
            stays, leaves = await g.worker("stays"), await g.worker("leaves")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, stays, leaves))))
            async with calling(g.config.port) as callers:
                await until(lambda: bool(leaves.seen))
                await g.router.publish(table(alone("digits", backend(1, Color.BLUE, stays))))
                await answered(callers)
                asked = len(leaves.seen)
                await answered(callers, 200)
                assert len(leaves.seen) == asked
            assert callers.failures == {}

    asyncio.run(story())


def test_publishes_at_once_are_applied_one_after_the_other() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            shares = [10, 90, 0, 55, 100]
            done = await asyncio.gather(
                *(g.router.publish(table(both("digits", blue, green, share))) for share in shares)
            )
            assert len({p.version for p in done}) == len(shares)
            assert (await g.post(PREDICT)).headers["x-teal-version"] == "2"

    asyncio.run(story())


def test_a_cancelled_publish_leaves_the_former_table_in_force() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(alone("digits", blue)))
            g.workers[1].behaviour.ready = False
            publishing = asyncio.create_task(g.router.publish(table(both("digits", blue, green, 100))))
            await until(lambda: g.observer.acks.count("endpoints") >= 3)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert (await g.post(PREDICT)).headers["x-teal-version"] == "1"
            await g.router.publish(table(alone("digits", blue)))
            assert len(await g.router.admin.clusters()) == 1

    asyncio.run(story())


def test_the_last_model_can_go_and_come_back() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            models: list[tuple[ModelRoutes, ...]] = [(both("digits", blue, green, 10),), (), (alone("digits", blue),)]
            for these in models:
                await g.router.publish(table(*these))
                assert (await g.post(PREDICT)).status_code == (200 if these else 404)
            assert len(await g.router.admin.clusters()) == 1

    asyncio.run(story())


def test_facts_for_telemetry_are_told() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 10)
            assert set(g.observer.acks) == {"clusters", "endpoints", "routes", "weights"}
            assert g.observer.nodes[-1] == g.router.nodes == 1
            await g.kill_envoy()
            await until(lambda: g.observer.nodes[-1] == 0)

    asyncio.run(story())


def test_an_envoy_says_who_it_is_drains_and_quits() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 0)
            admin = g.router.admin
            assert "1.40.0" in await admin.version()
            assert await admin.bootstrap_digest() == bootstrap.digest(g.config)
            g.workers[0].behaviour.delay = 0.3
            late = asyncio.create_task(g.post(PREDICT))
            await until(lambda: bool(g.workers[0].seen))
            assert await admin.drain(10)
            assert (await late).status_code == 200
            await admin.quit()
            assert g.process is not None
            async with asyncio.timeout(10):
                assert await g.process.wait() == 0
            assert not await admin.ready()

    asyncio.run(story())


def test_a_weight_that_changed_apart_from_the_routes_outlives_the_control_plane_and_envoy() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await at(g, blue, green, 0)
            routes = await told(g, "rds.teal")
            await at(g, blue, green, 100)
            assert await told(g, "rds.teal") == routes
            async with calling(g.config.port) as callers:
                await answered(callers)
                await g.restart_control_plane()
                await at(g, blue, green, 100)
                await answered(callers)
            assert (callers.failures, set(callers.versions)) == ({}, {"2"})
            await at(g, blue, green, 0)
            await at(g, blue, green, 100)
            await g.kill_envoy()
            await g.start_envoy()
            await until(g.router.admin.ready)
            answers = [await g.post(PREDICT) for _ in range(20)]
            assert {(a.status_code, a.headers["x-teal-version"]) for a in answers} == {(200, "2")}

    asyncio.run(story())


async def told(g: Gateway, what: str) -> list[str]:
    return [line for line in await updates(g) if what in line]
