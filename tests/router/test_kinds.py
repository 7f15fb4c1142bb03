"""Which requests are evidence: what names a version and what is a copy is counted, limited and drained apart."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from contracts.limits import MIB
from contracts.names import HEADER_MIRRORED, HEADER_REQUEST_ID, Color
from contracts.traffic import TOTAL, Mirror
from router.clusters import MIRRORED
from router.naming import MIRROR, PINNED, PREDICT
from router.table import Backend, ModelRoutes
from tests.router import calls
from tests.router.gateway import Gateway, alone, backend, both, gateway, table, until

pytestmark = pytest.mark.e2e

ASKED = "/v1/models/digits:predict"
PINS = (
    "/v1/models/digits/versions/2:predict",
    "/v1/models/digits/labels/candidate:predict",
    "/v2/models/digits/versions/2/infer",
)


async def two_versions(g: Gateway) -> tuple[Backend, Backend]:
    return backend(1, Color.BLUE, await g.worker("one")), backend(2, Color.GREEN, await g.worker("two"))


def mirrored(blue: Backend, green: Backend, percent: int = 100) -> ModelRoutes:
    return replace(both("digits", blue, green, 0), mirror=Mirror(Color.GREEN, percent * TOTAL // 100))


async def requests(g: Gateway, kind: str) -> dict[str, int]:
    """Requests sent to workers so far, by color."""
    return {name.split("|")[4]: facts.requests for name, facts in (await g.clusters(kind)).items()}


def ids(g: Gateway, worker: int) -> list[str]:
    return [headers[HEADER_REQUEST_ID] for _, _, headers in g.workers[worker].seen]


def test_requests_that_name_a_version_and_questions_are_counted_apart_from_the_split() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(both("digits", blue, green, 0)))
            for path in PINS:
                assert (await g.post(path)).headers["x-teal-version"] == "2"
            assert (await g.get("/v1/models/digits/metadata")).headers["x-teal-version"] == "1"
            await g.post(ASKED)
            assert await requests(g, PREDICT) == {"blue": 1, "green": 0}
            assert await requests(g, PINNED) == {"blue": 1, "green": 3}

    asyncio.run(story())


def test_traffic_leaves_a_version_without_waiting_for_callers_who_name_it() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(both("digits", blue, green, 100)))
            g.workers[1].behaviour.delay = 60
            stays = asyncio.create_task(g.post(PINS[0], timeout=60))
            await until(lambda: g.workers[1].waiting)
            await g.router.publish(table(both("digits", blue, green, 0)))
            assert g.workers[1].waiting == 1
            assert not stays.done()
            stays.cancel()

    asyncio.run(story())


def test_only_two_versions_are_worth_a_cluster_for_those_who_name_one() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(alone("digits", blue)))
            assert (await g.post("/v1/models/digits/versions/1:predict")).status_code == 200
            assert await g.clusters(PINNED) == {}
            await g.router.publish(table(both("digits", blue, green, 0)))
            assert len(await g.clusters(PINNED)) == 2
            await g.router.publish(table(alone("digits", green)))
            assert (await g.post("/v1/models/digits/versions/2:predict")).status_code == 200
            assert len(await g.router.admin.clusters()) == 1

    asyncio.run(story())


def test_a_copy_has_the_same_request_id_and_body_and_its_answer_is_nobodys() -> None:
    async def story() -> None:
        async with gateway() as g, calls.caller(g.config.port) as c:
            blue, green = await two_versions(g)
            await g.router.publish(table(mirrored(blue, green)))
            g.workers[1].behaviour.status = 500
            for n, path in enumerate((ASKED, "/v2/models/digits/infer")):
                said = await g.post(path, content=b"x" * 1000, headers={HEADER_REQUEST_ID: f"rest-{n}"})
                assert (said.status_code, said.headers["x-teal-version"]) == (200, "1")
            g.workers[1].behaviour.grpc = (13, "broken")
            answer = await c.call(calls.PREDICT, calls.predict("digits"), metadata=((HEADER_REQUEST_ID, "grpc-0"),))
            assert (answer.code, answer.said["worker"]) == ("OK", "one")
            await until(lambda: len(g.workers[1].seen) == 3)
            assert sorted(ids(g, 0)) == sorted(ids(g, 1)) == ["grpc-0", "rest-0", "rest-1"]
            assert [{p for _, p, _ in w.seen} for w in g.workers[:1]] == [{p for _, p, _ in g.workers[1].seen}]
            marks = [{h.get(HEADER_MIRRORED) for _, _, h in w.seen} for w in g.workers]
            assert marks == [{None}, {"1"}]
            assert {h["host"] for _, _, h in g.workers[1].seen} <= {h["host"] for _, _, h in g.workers[0].seen}
            assert await requests(g, PREDICT) == {"blue": 3, "green": 0}
            assert await requests(g, MIRROR) == {"green": 3}
            assert all(worker["length"] for worker in [answer.said])

    asyncio.run(story())


def test_what_names_a_version_is_not_copied_and_nobody_can_pretend_to_be_a_copy() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(mirrored(blue, green)))
            assert (await g.post("/v1/models/digits/versions/1:predict")).status_code == 200
            assert (await g.post(PINS[0], headers={HEADER_MIRRORED: "1"})).status_code == 200
            await g.post(ASKED, headers={HEADER_REQUEST_ID: "last"})
            await until(lambda: "last" in ids(g, 1))
            assert len(ids(g, 1)) == 2
            assert HEADER_MIRRORED not in g.workers[1].seen[0][2]

    asyncio.run(story())


def test_a_share_of_the_requests_is_copied() -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(mirrored(blue, green, 25)))
            for _ in range(8):
                await asyncio.gather(*(g.post(ASKED) for _ in range(50)))
            await until(lambda: len(ids(g, 1)) > 50)
            assert len(set(ids(g, 1))) < 160  # 100 of 400 expected; six standard deviations on either side
            assert set(ids(g, 1)) < set(ids(g, 0))

    asyncio.run(story())


def test_a_candidate_too_slow_for_its_copies_gets_fewer_and_no_caller_notices(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(mirrored(blue, green)))
            g.workers[1].behaviour.delay = 60
            for _ in range(6):
                answers = await asyncio.gather(*(g.post(ASKED) for _ in range(50)))
                assert {a.status_code for a in answers} == {200}
            await until(lambda: g.workers[1].waiting == MIRRORED)
            facts: dict[str, Any] = await g.clusters(MIRROR)
            assert [f.active for f in facts.values()] == [MIRRORED]
            await g.router.publish(table(both("digits", blue, green, 0)))
            assert "still has requests" not in caplog.text  # nobody waited for the copies

    asyncio.run(story())


COUNTED = re.compile(r"envoy_cluster_upstream_rq_(completed|xx|retry_success)\{(.*)\} (\d+)")


async def outcomes(g: Gateway) -> dict[str, int]:
    """What evidence is made of, for the blue version: answered, by class of status, and saved by a second attempt."""
    found = {}
    for line in (await g.router.admin.prometheus()).decode().splitlines():
        match = COUNTED.fullmatch(line)
        if match and int(match[3]) and 'kind="predict"' in match[2] and 'color="blue"' in match[2]:
            code = re.search(r'response_code_class="(\d)"', match[2])
            found[f"{code[1]}xx" if code else match[1]] = int(match[3])
    return found


def test_calls_over_grpc_count_as_what_their_grpc_status_says_and_callers_see_only_that() -> None:
    async def story() -> None:
        async with gateway() as g, calls.caller(g.config.port) as c:
            blue, green = await two_versions(g)
            await g.router.publish(table(both("digits", blue, green, 0)))
            answers = []
            for code, words in ((0, ""), (3, "bad"), (13, "broken"), (14, "full"), (5, "gone"), (4, "late"), (0, "")):
                g.workers[0].behaviour.grpc = (code, words)
                answers.append(await c.call(calls.PREDICT, calls.predict("digits")))
            assert [a.code for a in answers] == [
                "OK", "INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED", "OK",
            ]  # fmt: skip
            assert [a.words for a in answers[1:-1]] == ["bad", "broken", "full", "gone", "late"]
            assert {a.headers["x-teal-version"] for a in answers} == {"1"}
            assert await outcomes(g) == {"completed": 7, "2xx": 2, "4xx": 2, "5xx": 3}
            await g.workers[0].die()

            async def nobody_there() -> bool:
                return "no worker" in (await c.call(calls.PREDICT, calls.predict("digits"))).words

            before = await outcomes(g)
            await until(nobody_there)
            after = await outcomes(g)
            assert after["completed"] - before["completed"] == after["5xx"] - before["5xx"] > 0
            assert (after["2xx"], after["4xx"]) == (2, 2)

    asyncio.run(story())


def test_a_call_saved_by_a_second_attempt_is_told_from_one_that_needed_none() -> None:
    async def story() -> None:
        async with gateway() as g, calls.caller(g.config.port) as c:
            dying, other = await g.worker("dying"), await g.worker("other")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, dying, other))))
            dying.behaviour.delay = other.behaviour.delay = 0.2
            under_way = [asyncio.create_task(c.call(calls.PREDICT, calls.predict("digits"))) for _ in range(8)]
            await until(lambda: dying.waiting + other.waiting == 8)
            lost = dying.waiting
            await dying.die()
            assert {(await each).code for each in under_way} == {"OK"}
            assert lost > 0
            assert await outcomes(g) == {"completed": 8, "2xx": 8, "retry_success": lost}

    asyncio.run(story())


@pytest.mark.parametrize("size", [1 * MIB, 12 * MIB])
def test_large_bodies_reach_their_callers_version_whole_whether_the_copy_does_or_not(size: int) -> None:
    async def story() -> None:
        async with gateway() as g:
            blue, green = await two_versions(g)
            await g.router.publish(table(mirrored(blue, green)))
            answer = await g.post("/v2/models/digits/infer", content=b"x" * size)
            assert (answer.status_code, answer.json()["length"]) == (200, size)
            assert answer.headers["x-teal-version"] == "1"

    asyncio.run(story())
