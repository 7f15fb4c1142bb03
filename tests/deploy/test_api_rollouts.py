"""Rollouts by evidence over the operating API: plans and forecasts, fencing by revision, and commands done once."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.rollout.plan import CANARY
from deploy.rollout.plan_file import plan_to_json
from tests.deploy.plane import BOUND, Plane, plane, until
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic

STEEP = {"strategy": "canary", "deadline": "10m", "steps": [{"weight": "50 %", "dwell": "1m"}], "bake": "1m"}


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as running:
            running.versions("m", 3)
            await running.must("m/deploy", version=1)
            await story(running)

    asyncio.run(told())


def refused(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    for word in words:
        assert word in answer.json()["error"]


async def say(p: Plane, path: str, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await p.http.post(f"/api/v1/models/{path}", json=body, headers=headers)


async def measured(p: Plane, path: str, requests: int, failed: int = 0, **body: Any) -> httpx.Response:
    """A call that measures, while version 1 answers so many requests. The fake's looks are a second apart."""
    asked = asyncio.create_task(p.post(path, **body))
    await until("it measures", lambda: p.clock.next_due < math.inf)
    p.counters.answer("m", 1, requests, failed=failed)
    p.clock.move(3.0)
    return await asked


# ---- plans


def test_a_plan_is_followed_and_names_its_strategy(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        status = (await measured(p, "m/deploy", 1000, version=2, plan=STEEP)).json()
        assert (status["rollout"]["strategy"], status["rollout"]["step"]) == ("canary", "50 %")
        evidence = status["rollout"]["evidence"]
        assert (evidence["step"], evidence["steps"], evidence["dwell"], evidence["deadline"]) == (1, 1, 60.0, 600.0)
        assert {g["watched"] for g in evidence["guardrails"]} >= {"errors", "batches", "latency"}
        assert all(g["harm_threshold"] > 0 for g in evidence["guardrails"])

    drive(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"plan": {"steps": [{"weight": 5, "dwell": "2m"}, {"weight": 150, "dwell": "2m"}]}}, "plan.steps[1]: weight"),
        ({"plan": {"strategy": "manual"}}, "needs no plan"),
        ({"plan": {}, "strategy": "bluegreen"}, "the plan is for strategy canary"),
        ({"plan": [1]}, "plan"),
        ({"plan": {"alpha": {"a": 1}}}, "alpha is a single value"),
    ],
)
def test_a_plan_that_is_none_is_400_with_its_place(tmp_path: Path, body: dict[str, Any], said: str) -> None:
    async def story(p: Plane) -> None:
        p.counters.broken = "nobody counts"  # so that nothing is measured
        refused(await p.post("m/deploy", version=2, **body), 400, "invalid_input", said)
        assert (await p.status())["candidate"] is None

    drive(tmp_path, story)


def test_a_plan_of_ones_own_is_refused_when_todays_traffic_cannot_decide_it(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        slow = {"deadline": "25m", "margin": 1.5}
        refused(
            await measured(p, "m/deploy", 10, version=2, plan=slow), 400, "invalid_input", "10 requests a second", "h`"
        )
        assert (await p.status())["candidate"] is None
        quiet = await measured(p, "m/deploy", 1, version=2, plan=slow)
        assert quiet.status_code == 200, "a quiet moment says nothing"

    drive(tmp_path, story)


def test_the_default_plan_on_a_quiet_model_starts_with_a_warning(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        deployed = await p.must("m/deploy", version=2)
        assert deployed["rollout"]["strategy"] == "canary"
        assert "there is no traffic" in deployed["warning"]

    drive(tmp_path, story)


def test_a_first_version_or_one_moved_by_hand_warns_of_nothing(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        assert (await p.must("m/deploy", version=2, strategy="manual"))["warning"] is None

    drive(tmp_path, story)


def test_a_forecast_measures_or_takes_what_it_is_told(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        seen = (await measured(p, "m/forecast", 600, failed=6)).json()
        assert seen["measured"] == {"requests": 600, "seconds": 1.0}
        assert (seen["requests_per_second"], seen["failing"], seen["problem"]) == (600.0, 0.01, None)
        assert seen["plan"] == plan_to_json(CANARY)
        told = await p.must("m/forecast", requests_per_second=0.0)
        assert told["promote_seconds"] is None
        assert "no traffic" in told["problem"]
        p.versions("n", 1)
        refused(await p.post("n/forecast"), 409, "conflict", "nothing is live")
        p.counters.broken = "Envoy's admin did not answer"
        refused(await p.post("m/forecast"), 503, "unavailable", "did not answer")

    drive(tmp_path, story)


# ---- on the way


async def canary(p: Plane) -> Any:
    return await p.must("m/deploy", version=2, strategy="canary")


def test_an_operator_can_hold_it_hurry_it_and_give_it_time(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await canary(p)
        assert (await p.must("m/pause"))["rollout"]["state"] == "paused"
        assert (await p.must("m/resume"))["rollout"]["state"] == "canary"
        assert (await p.must("m/skip"))["rollout"]["step"] == "5 %"
        longer = await p.must("m/extend", seconds=3600)
        assert longer["rollout"]["evidence"]["deadline"] == 3 * 3600.0
        refused(await p.post("m/extend", seconds=0), 400, "invalid_input", "seconds")
        refused(await p.post("m/extend", seconds=10**9), 400, "invalid_input", "seconds")

    drive(tmp_path, story)


def test_promotion_without_evidence_takes_override(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await canary(p)
        refused(await p.post("m/promote"), 409, "conflict", "not yet shown", "--override")
        assert (await p.must("m/promote", override=True))["live"]["version"] == 2
        refused(await p.post("m/abort", override=True), 400, "invalid_input", "override")

    drive(tmp_path, story)


def test_a_status_says_which_share_of_the_requests_the_candidate_answered(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        assert (await canary(p))["rollout"]["observed"] is None
        for _ in range(3):
            p.counters.answer("m", 1, 990)
            p.counters.answer("m", 2, 10)
            p.clock.move(5.0)
            await p.reconciler.next_tick(BOUND)
        assert (await p.status())["rollout"]["observed"] == 1.0

    drive(tmp_path, story)


# ---- fencing


def test_a_status_and_every_answer_carry_the_revision_as_etag(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        answer = await p.post("m/deploy", version=2, strategy="manual")
        assert answer.headers["etag"] == f'"{answer.json()["revision"]}"'
        status = await p.http.get("/api/v1/models/m/status")
        assert status.headers["etag"] == answer.headers["etag"]
        moved = await say(p, "m/weight", {"if-match": status.headers["etag"]}, percent=10)
        assert moved.status_code == 200
        assert moved.headers["etag"] == f'"{moved.json()["revision"]}"'

    drive(tmp_path, story)


@pytest.mark.parametrize("tag", ['"1"', "1", 'W/"3"', '"3", "4"', '"x"', '"' + "9" * 40 + '"'])
def test_a_stale_tab_gives_a_candidate_no_more_users_and_may_always_take_them_away(tmp_path: Path, tag: str) -> None:
    async def story(p: Plane) -> None:
        revision = (await p.must("m/deploy", version=2, strategy="manual"))["revision"]
        stale = {"if-match": tag.replace("3", str(revision))}
        refused(await say(p, "m/weight", stale, percent=10), 412, "stale", "repeat the weight")
        refused(await say(p, "m/promote", stale), 412, "stale")
        refused(await say(p, "m/promote", {"if-match": f'"{revision}"'}, expected_revision=1), 412, "stale")
        assert (await p.status())["revision"] == revision
        assert (await say(p, "m/promote", {"if-match": "*"}, expected_revision=1)).status_code == 409
        assert (await say(p, "m/abort", stale)).status_code == 200

    drive(tmp_path, story)


def test_two_operators_with_the_same_page_of_whom_one_comes_first(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        seen = {"if-match": (await p.post("m/deploy", version=2, strategy="manual")).headers["etag"]}
        answers = await asyncio.gather(say(p, "m/promote", seen), say(p, "m/weight", seen, percent=10))
        won, lost = sorted(a.status_code for a in answers)
        assert (won, lost) in ((200, 412), (200, 409))  # after the promotion there is no candidate to weigh

    drive(tmp_path, story)


# ---- once


def test_a_command_with_a_key_is_done_once_and_repeated_with_its_first_result(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await p.must("m/deploy", version=2, strategy="manual")
        key = {"idempotency-key": "k-1"}
        first = await say(p, "m/weight", key, percent=10)
        await p.must("m/weight", percent=30)
        again = await say(p, "m/weight", key, percent=10)
        assert (again.status_code, again.headers["etag"]) == (200, first.headers["etag"])
        assert again.json()["candidate"]["weight"] == 10.0
        assert (await p.status())["candidate"]["weight"] == 30.0
        refused(await say(p, "m/weight", key, percent=11), 409, "conflict", "k-1", "another command")
        refused(await say(p, "m/promote", key), 409, "conflict", "another command")
        p.versions("n", 1)
        assert (await say(p, "n/deploy", key)).status_code == 200, "keys belong to a model"

    drive(tmp_path, story)


def test_the_same_key_many_times_at_once_changes_one_thing(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await p.must("m/deploy", version=2, strategy="manual")
        answers = await asyncio.gather(*(say(p, "m/promote", {"idempotency-key": "once"}) for _ in range(20)))
        assert {(a.status_code, a.json()["revision"]) for a in answers} == {(200, answers[0].json()["revision"])}
        history = await p.get("/api/v1/models/m/history")
        assert [e["action"] for e in history["events"]].count("promote") == 1

    drive(tmp_path, story)


def test_a_refused_command_leaves_its_key_free(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        key = {"idempotency-key": "later"}
        refused(await say(p, "m/promote", key), 409, "conflict", "no candidate")
        await p.must("m/deploy", version=2, strategy="manual")
        assert (await say(p, "m/promote", key)).json()["live"]["version"] == 2

    drive(tmp_path, story)


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_has_between_1_and_200_characters(tmp_path: Path, key: str) -> None:
    async def story(p: Plane) -> None:
        refused(await say(p, "m/abort", {"idempotency-key": key}), 400, "invalid_input", "key")

    drive(tmp_path, story)


def test_a_key_is_remembered_across_a_restart_and_forgotten_after_a_day(tmp_path: Path) -> None:
    async def story() -> None:
        fleet, traffic, key = FakeFleet(instantly=True), FakeTraffic(), {"idempotency-key": "k"}
        async with plane(tmp_path, fleet=fleet, traffic=traffic) as p:
            p.versions("m", 2)
            await p.must("m/deploy", version=1)
            first = await say(p, "m/deploy", key, version=2, strategy="manual")
        async with plane(tmp_path, fleet=fleet, traffic=traffic) as p:
            again = await say(p, "m/deploy", key, version=2, strategy="manual")
            assert again.json()["revision"] == first.json()["revision"]
            p.clock.move(25 * 3600.0)
            await say(p, "m/weight", {"idempotency-key": "other"}, percent=1)
            assert (await say(p, "m/weight", key, percent=2)).json()["candidate"]["weight"] == 2.0

    asyncio.run(story())
