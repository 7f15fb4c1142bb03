"""Feedback and explain through the operating API, and what rollouts are told of it."""

import asyncio
import itertools
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.evidence.counters import Kind
from tests.deploy.plane import BOUND, Plane, plane, until


def told(folder: Path, story: Callable[[Plane], Coroutine[Any, Any, None]]) -> None:
    """The story, with version 1 of m live and version 2 the candidate of a rollout by hand."""

    async def main() -> None:
        async with plane(folder) as control:
            control.versions("m", 2)
            await control.must("m/deploy", version=1)
            await control.must("m/deploy", version=2, strategy="manual")
            await story(control)

    asyncio.run(main())


async def feedback(control: Plane, body: Any) -> httpx.Response:
    return await control.http.post("/api/v1/feedback", json=body)


def test_a_label_is_joined_with_the_answer_it_is_about(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        control.memories.answered("a", 2, 3)
        answer = await feedback(control, {"request_id": "a", "label": 3})
        assert answer.status_code == 200
        assert answer.json() == {
            "request_id": "a",
            "result": "judged",
            "reason": "version 2: 1",
            "model": "m",
            "outcomes": [{"version": 2, "outcome": 1.0}],
        }
        again = await feedback(control, {"request_id": "a", "label": 5})
        assert (again.status_code, again.json()["result"]) == (200, "repeated")

    told(tmp_path, story)


def test_a_label_that_cannot_be_joined_is_refused_with_the_next_step(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        control.memories.answered("a", 1, 3)
        unknown = await feedback(control, {"request_id": "nobody", "label": 3})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
        assert "send labels earlier" in unknown.json()["error"]
        unfit = await feedback(control, {"request_id": "a", "label": "three"})
        assert unfit.status_code == 400
        assert "the number of a class" in unfit.json()["error"]

    told(tmp_path, story)


def test_of_many_labels_each_says_what_became_of_it(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        control.memories.answered("a", 1, 3)
        control.memories.answered("b", 1, 3, 4)
        reports = [
            {"request_id": "a", "label": 3},
            {"request_id": "b", "label": [3, 5], "model": "m"},
            {"request_id": "a", "label": 3},
            {"request_id": "c", "label": 3},
            {"request_id": "d", "label": 0.5, "model": "m", "version": 2, "predicted": 0.75},
        ]
        answer = await feedback(control, reports)
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [r["result"] for r in results] == ["judged", "judged", "repeated", "unknown", "judged"]
        assert results[1]["outcomes"] == [{"version": 1, "outcome": 0.5}]
        assert results[4]["outcomes"] == [{"version": 2, "outcome": 0.75}]
        metrics = (await control.http.get("/metrics")).text
        assert 'teal_feedback_total{result="judged"} 3.0' in metrics, [
            m for m in metrics.splitlines() if "feedback" in m
        ]

    told(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"label": 3}, "request_id"),
        ({"request_id": "a"}, "label"),
        ({"request_id": "a", "label": None}, "one per row"),
        ({"request_id": "a", "label": []}, "one per row"),
        ({"request_id": "a", "label": [[3]]}, "one per row"),
        ({"request_id": "a", "label": 10**30}, "one per row"),
        ({"request_id": "a", "label": 3, "weight": 2}, "no such field"),
        ({"request_id": "a" * 129, "label": 3}, "request_id"),
        ([], "1 item"),
        ("a", "feedback"),
    ],
)
def test_feedback_that_is_none_is_refused(tmp_path: Path, body: Any, words: str) -> None:
    async def story(control: Plane) -> None:
        answer = await feedback(control, body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]

    told(tmp_path, story)


def test_a_request_is_explained_from_memory_registry_and_history(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        now = control.clock.wall()
        control.memories.answered("a", 2, 7, at=now)
        control.clock.move(60)
        await control.must("m/weight", percent=10)
        await control.must("m/promote")
        (answer,) = (await control.get("/api/v1/explain/a"))["answers"]
        assert (answer["model"], answer["version"], answer["color"]) == ("m", 2, "green")
        assert (answer["role"], answer["role_now"], answer["state"]) == ("candidate", "live", "canary")
        assert (answer["kind"], answer["predicted"], answer["at"], answer["mirrored"]) == ("class", [7], now, False)
        assert answer["digest"] == f"{1:064x}"
        assert answer["source"] == "/models/1"

    told(tmp_path, story)


def test_a_request_nobody_remembers_is_said_to_be_forgotten(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        control.memories.silent.add("m-1-blue-0")
        answer = await control.http.get("/api/v1/explain/a/b")
        assert answer.status_code == 404
        said = answer.json()["error"]
        assert said.startswith("nobody remembers request 'a/b' (1 workers could not be asked): each worker keeps its")
        assert "teal models NAME VERSION" in said

    told(tmp_path, story)


PLAN: Any = {
    "strategy": "canary",
    "steps": [{"weight": "50 %", "dwell": "600s"}],
    "deadline": "3000s",
    "guardrails": [
        {"watched": "errors", "share": 0.5, "objective": 0.05},
        {"watched": "quality", "share": 0.5, "required": False},
        {"watched": "shadow", "share": 1.0, "required": False},
    ],
}


def rolling_out(folder: Path, story: Callable[[Plane], Coroutine[Any, Any, None]], **change: Any) -> None:
    """The story, with version 1 of m live and version 2 the candidate of a rollout by PLAN."""

    async def main() -> None:
        async with plane(folder) as control:
            control.versions("m", 2)
            await control.must("m/deploy", version=1)
            asked = asyncio.create_task(control.must("m/deploy", version=2, plan={**PLAN, **change}))
            await until("the traffic is measured for a forecast", lambda: control.clock.next_due < math.inf)
            control.counters.answer("m", 1, 1000)
            control.clock.move(5)
            await asked
            await story(control)

    asyncio.run(main())


async def tick(control: Plane, kind: Kind = Kind.SPLIT) -> Any:
    """Five seconds with traffic; then the control plane looks. The rollout's status."""
    control.counters.answer("m", 1, 100)
    control.counters.answer("m", 2, 100, kind=kind)
    control.clock.move(5)
    await control.outcomes.comparing.look()
    await control.reconciler.next_tick(BOUND)
    return (await control.status())["rollout"]


def seen(rollout: Any, watched: str) -> Any:
    return next(g for g in rollout["evidence"]["guardrails"] if g["watched"] == watched)


def test_labels_alone_roll_a_wrong_candidate_back(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        names = itertools.count()
        for _ in range(20):
            reports = []
            for _, version in itertools.product(range(10), (1, 2)):
                name = f"r{next(names)}"
                control.memories.answered(name, version, 3 if version == 1 else 5, at=control.clock.wall())
                reports.append({"request_id": name, "label": 3})
            assert (await feedback(control, reports)).status_code == 200
            rollout = await tick(control)
            if rollout["state"] == "rolled_back":
                break
        assert rollout["state"] == "rolled_back"
        assert "quality" in rollout["reason"]

    rolling_out(tmp_path, story)


def test_a_mirrored_candidate_that_answers_otherwise_does_not_go_on(tmp_path: Path) -> None:
    async def story(control: Plane) -> None:
        names = itertools.count()
        for _ in range(30):
            rollout = await tick(control, Kind.MIRROR)
            for n in names:
                control.memories.answered(f"r{n}", 1, 3)
                control.memories.answered(f"r{n}", 2, 3 if n % 2 else 5)
                if n % 20 == 19:
                    break
        compared = seen(rollout, "shadow")
        assert compared["candidate"]["units"] > 100
        assert compared["candidate"]["bad"] * 2 == compared["candidate"]["units"]
        assert rollout["state"] == "shadow"
        assert "mirrored" in rollout["reason"]

    rolling_out(tmp_path, story, mirror="10 %", mirror_for="60s")
