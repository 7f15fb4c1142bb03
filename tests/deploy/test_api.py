"""The operating API from outside: commands that answer once acknowledged, errors with a sentence and a stable code."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.cli.local import LocalHome
from tests.deploy.plane import FakeEnvoy, Plane, plane, until

VERBS = ("deploy", "weight", "promote", "abort", "rollback", "undo", "drain")


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as running:
            await story(running)

    asyncio.run(told())


def refused(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "code"}
    assert body["code"] == code
    for word in words:
        assert word in body["error"]


def test_from_first_version_to_promotion_and_back(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        first = await p.must("m/deploy", actor="ada")
        assert first["live"]["version"] == 2  # the newest
        await p.must("m/drain")
        first = await p.must("m/deploy", version=1)
        assert (first["live"]["version"], first["live"]["color"], first["live"]["weight"]) == (1, "blue", 100.0)
        assert first["candidate"] is None
        assert first["rollout"] is None
        second = await p.must("m/deploy", replicas=2, strategy="manual")
        assert (second["candidate"]["version"], second["candidate"]["color"]) == (2, "green")
        assert (second["candidate"]["weight"], second["candidate"]["ready"]) == (0.0, 2)
        weighed = await p.must("m/weight", percent=12.5, expected_revision=second["revision"])
        assert weighed["applied"] == {"revision": weighed["revision"], "weights": {"blue": 87.5, "green": 12.5}}
        promoted = await p.must("m/promote")
        assert (promoted["live"]["version"], promoted["live"]["weight"]) == (2, 100.0)
        assert promoted["previous"]["version"] == 1
        back = await p.must("m/rollback", reason="looks odd")
        assert back["live"]["version"] == 1
        assert back["candidate"] is None
        assert "looks odd" in back["rollout"]["reason"]
        assert p.traffic.table.models[0].split.blue == 10_000
        history = await p.get("/api/v1/models/m/history?limit=3")
        assert [e["action"] for e in history["events"]] == ["rollback", "promote", "weight"]
        assert history["events"][0]["before"]["live"]["version"] == 2

    drive(tmp_path, story)


def test_a_rollback_of_a_candidate_gives_it_up_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        await p.must("m/weight", percent=25)
        back = await p.must("m/rollback")
        assert (back["live"]["version"], back["live"]["weight"], back["candidate"]) == (1, 100.0, None)
        again = await p.must("m/rollback")
        assert again["revision"] == back["revision"]
        assert [b.version for b in p.traffic.table.models[0].backends] == [1]
        assert {w.version for w in p.fleet.workers()} == {1}

    drive(tmp_path, story)


def test_deploy_answers_only_when_the_version_is_warm_and_routed(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        asked = asyncio.create_task(p.post("m/deploy"))
        await until("a worker starts", p.fleet.workers)
        warming = await p.status()
        assert (warming["live"], warming["candidate"]["version"]) == (None, 1)
        assert warming["rollout"]["state"] == "warming"
        assert not asked.done()
        p.fleet.ready()
        assert (await asked).json()["live"]["ready"] == 1
        assert p.traffic.table.models[0].backends[0].endpoints == ("/run/m-1-blue-0.sock",)

    drive(tmp_path, story, instantly=False)


def test_a_version_that_cannot_load_is_refused_with_its_reason_and_live_is_untouched(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        first = asyncio.create_task(p.post("m/deploy", version=1))
        await until("a worker starts", p.fleet.workers)
        p.fleet.ready()
        await first
        second = asyncio.create_task(p.post("m/deploy", version=2, strategy="manual"))
        await until("the second starts", lambda: len(p.fleet.workers()) == 2)
        p.fleet.break_down("m", 2, "package does not verify")
        refused(await second, 503, "unavailable", "version 2", "version 1 stays live", "package does not verify")
        status = await p.status()
        assert (status["live"]["weight"], status["candidate"], status["rollout"]["state"]) == (100.0, None, "failed")

    drive(tmp_path, story, instantly=False)


def test_a_deploy_that_another_operator_aborts_is_told_so(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        first = asyncio.create_task(p.post("m/deploy"))
        await until("a worker starts", p.fleet.workers)
        assert (await p.post("m/abort", reason="wrong one")).status_code == 200
        refused(await first, 409, "conflict", "given up while warming", "wrong one")

    drive(tmp_path, story, instantly=False)


def test_a_model_never_deployed_looks_the_same_with_and_without_a_gateway(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("a", 1)
        p.versions("b", 1)
        await p.must("b/deploy")
        p.traffic.refuse = "unknown cluster"  # the trouble of another model
        assert (await p.post("b/drain")).status_code == 503
        with LocalHome(p.home.path) as home:
            assert (await p.get("/api/v1/status"))["models"][0] == home.overview()["models"][0] == home.status("a")
            assert await p.status("a") == home.status("a")
            assert home.status("a") == {
                "model": "a",
                "revision": 0,
                "live": None,
                "candidate": None,
                "previous": None,
                "rollout": None,
                "applied": None,
            }

    drive(tmp_path, story, ack_seconds=0.05)


def test_the_overview_lists_models_that_are_only_registered_too(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("a", 1)
        p.versions("b", 1)
        await p.must("b/deploy")
        overview = await p.get("/api/v1/status")
        assert [(m["model"], m["live"] is None) for m in overview["models"]] == [("a", True), ("b", False)]
        assert overview["gateway"]["envoy"] == "ready"
        assert (await p.get("/api/v1/models"))["models"][1] == {
            "model": "b",
            "live": 1,
            "candidate": None,
            "versions": 1,
        }

    drive(tmp_path, story)


def test_everything_unknown_is_404_and_names_what_is_there(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        refused(await p.post("m/deploy"), 404, "not_found", "nothing is registered", "teal register")
        p.versions("m", 2)
        refused(await p.post("other/deploy"), 404, "not_found", "registered: m")
        refused(await p.post("m/deploy", version=9), 404, "not_found", "registered: 1, 2")
        refused(await p.http.get("/api/v1/models/m/versions/9"), 404, "not_found", "1, 2")
        refused(await p.http.get("/api/v1/models/other/status"), 404, "not_found", "other")
        refused(await p.http.get("/api/v1/models/other/history"), 404, "not_found", "other")
        refused(await p.http.delete("/api/v1/models/m/versions/9"), 404, "not_found", "1, 2")
        refused(await p.http.get("/nowhere"), 404, "not_found", "/docs")
        assert (await p.status())["revision"] == 0

    drive(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("weight", {"percent": -1}),
        ("weight", {"percent": 100.01}),
        ("weight", {"percent": 12.345}),
        ("weight", {"percent": "many"}),
        ("weight", {"percent": True}),
        ("weight", {"percent": None}),
        ("weight", {"percent": [1]}),
        ("weight", {}),
        ("weight", {"percent": 1, "percentage": 1}),
        ("deploy", {"version": 0}),
        ("deploy", {"version": "2"}),
        ("deploy", {"version": 2**63}),
        ("deploy", {"replicas": 0}),
        ("deploy", {"replicas": 100_000}),
        ("deploy", {"strategy": "hope"}),
        ("promote", {"expected_revision": -1}),
        ("promote", {"force": True}),
        ("promote", {"reason": "x" * 1001}),
        ("drain", {"version": 1.5}),
    ],
)
def test_a_body_that_does_not_fit_is_400_and_changes_nothing(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        before = await p.must("m/deploy", version=2, strategy="manual")
        refused(await p.post(f"m/{path}", **body), 400, "invalid_input")
        assert (await p.status())["revision"] == before["revision"]

    drive(tmp_path, story)


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"percent": NaN}', b"[" * 30_000])
def test_bytes_that_are_no_command_are_400(tmp_path: Path, body: bytes) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        headers = {"content-type": "application/json"}
        answer = await p.http.post("/api/v1/models/m/weight", content=body, headers=headers)
        refused(answer, 400, "invalid_input")

    drive(tmp_path, story)


def test_what_contradicts_the_state_is_409_and_names_the_next_step(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 3)
        refused(await p.post("m/promote"), 409, "conflict", "teal deploy m")
        await p.must("m/deploy", version=1)
        refused(await p.post("m/deploy", version=1), 409, "conflict", "already live")
        refused(await p.post("m/weight", percent=10), 409, "conflict", "no candidate")
        await p.must("m/deploy", version=2, strategy="manual")
        refused(await p.post("m/deploy", version=3), 409, "conflict", "version 2 is the candidate", "promote or abort")
        refused(await p.post("m/pause"), 409, "conflict", "by hand")
        stale = (await p.status())["revision"] - 1
        refused(await p.post("m/promote", expected_revision=stale), 409, "stale", "revision")
        refused(await p.http.delete("/api/v1/models/m/versions/1"), 409, "conflict", "deployed as live")
        refused(await p.http.delete("/api/v1/models/m/versions/2"), 409, "conflict", "deployed as candidate")
        deleted = await p.http.delete("/api/v1/models/m/versions/3")
        assert deleted.json() == {"model": "m", "version": 3, "deleted": True}

    drive(tmp_path, story)


def test_what_reduces_exposure_is_never_refused_for_a_stale_revision(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        await p.must("m/weight", percent=50)
        await p.must("m/weight", percent=10, expected_revision=0)
        refused(await p.post("m/weight", percent=20, expected_revision=0), 409, "stale")
        await p.must("m/abort", expected_revision=0)

    drive(tmp_path, story)


def test_two_promotes_at_once_of_which_one_wins(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        seen = (await p.must("m/deploy", version=2, strategy="manual"))["revision"]
        answers = await asyncio.gather(
            p.post("m/weight", percent=10, expected_revision=seen), p.post("m/promote", expected_revision=seen)
        )
        assert sorted(a.status_code for a in answers) == [200, 409]

    drive(tmp_path, story)


def test_what_envoy_refused_is_503_with_its_words_and_stays_recorded(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        p.traffic.refuse = "unknown cluster"
        answer = await p.post("m/weight", percent=25)
        refused(answer, 503, "unavailable", "recorded", "unknown cluster")
        assert answer.headers["retry-after"]
        status = await p.status()
        assert status["candidate"]["weight"] == 25.0
        assert status["applied"]["weights"]["green"] == 0.0
        assert "unknown cluster" in status["rollout"]["reason"]
        p.traffic.refuse = None
        await until("it is tried again", lambda: p.traffic.table.models[0].split.green == 2500)

    drive(tmp_path, story, ack_seconds=0.05)


def test_a_page_of_another_site_commands_nothing(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        for headers in (
            {"host": "evil.example"},
            {"host": "127.0.0.1.evil.example:8090"},
            {"host": "evil.example@127.0.0.1"},
            {"host": "127.0.0.1/abc?bar="},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
        ):
            answer = await p.http.post("/api/v1/models/m/deploy", json={}, headers=headers)
            refused(answer, 400, "invalid_input", "not")
        refused(await p.http.get("/api/v1/status", headers={"host": "evil.example"}), 400, "invalid_input", "evil")
        for host in ("localhost:8090", "127.0.0.1", "[::1]:8090", "127.0.0.2:1"):
            assert (await p.http.get("/healthz", headers={"host": host})).status_code == 200
        assert (await p.status())["revision"] == 0

    drive(tmp_path, story)


def test_it_is_ready_only_while_envoy_listens_and_alive_all_the_time(tmp_path: Path) -> None:
    async def story() -> None:
        envoy = FakeEnvoy()
        async with plane(tmp_path, envoy=envoy) as p:
            assert await p.get("/readyz") == {"status": "ready"}
            envoy.listens = False
            refused(await p.http.get("/readyz"), 503, "unavailable", "does not listen")
            envoy.state = "waiting: exit code 1"
            refused(await p.http.get("/readyz"), 503, "unavailable", "exit code 1")
            assert await p.get("/healthz") == {"status": "ok"}

    asyncio.run(story())


def test_a_body_larger_than_any_command_is_413(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        refused(await p.post("m/promote", reason="x" * 100_000), 413, "too_large")

        async def endless() -> Any:
            for _ in range(100):
                yield b" " * 1024

        headers = {"content-type": "application/json"}
        refused(await p.http.post("/api/v1/models/m/promote", content=endless(), headers=headers), 413, "too_large")

    drive(tmp_path, story)


def test_another_method_is_405_in_the_same_shape(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        refused(await p.http.get("/api/v1/models/m/promote"), 405, "method_not_allowed")

    drive(tmp_path, story)


def test_own_labels_route_while_their_version_is_deployed(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        answer = await p.http.put("/api/v1/models/m/labels/stable", json={"version": 1})
        assert answer.json() == {"model": "m", "labels": {"stable": 1}}
        assert p.traffic.table.models[0].labels == {"blue": 1, "live": 1, "stable": 1}
        refused(await p.http.put("/api/v1/models/m/labels/live", json={"version": 1}), 400, "invalid_input")
        refused(await p.http.put("/api/v1/models/m/labels/x", json={"version": 7}), 404, "not_found")
        await p.http.delete("/api/v1/models/m/labels/stable")
        assert "stable" not in p.traffic.table.models[0].labels
        refused(await p.http.delete("/api/v1/models/m/labels/stable"), 404, "not_found")

    drive(tmp_path, story)


def test_metrics_tell_roles_weights_workers_and_commands(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        await p.must("m/weight", percent=25)
        await p.post("m/weight", percent=101)
        text = (await p.http.get("/metrics")).text
        assert 'teal_rollout_weight_ratio{model="m",version="2",color="green",kind="applied"} 0.25' in text
        assert 'teal_workers{model="m",version="1",color="blue",state="ready"} 1.0' in text
        assert 'teal_slot_info{model="m",version="2",color="green",role="candidate",' in text
        assert 'teal_operator_commands_total{command="weight",result="invalid_input"} 1.0' in text
        refused(await p.http.get("/metrics/envoy"), 503, "unavailable")
        targets = await p.get("/api/v1/targets")
        assert [t["labels"]["__metrics_path__"] for t in targets] == [
            "/metrics",
            "/metrics/envoy",
            "/metrics/workers/m-1-blue-0",
            "/metrics/workers/m-2-green-0",
        ]

    drive(tmp_path, story)


def test_openapi_names_every_path_of_the_architecture_with_its_errors(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        spec = await p.get("/openapi.json")
        assert spec["openapi"].startswith("3.")
        commands = {f"/api/v1/models/{{name}}/{v}" for v in VERBS}
        assert commands <= set(spec["paths"])
        for path in commands:
            assert {"200", "400", "404", "409", "415", "503"} <= set(spec["paths"][path]["post"]["responses"])
            assert "422" not in spec["paths"][path]["post"]["responses"]

    drive(tmp_path, story)


def test_no_call_takes_a_source_to_fetch(tmp_path: Path) -> None:
    """Fetching reaches whatever the credentials of this machine reach: who asks for it needs a shell here."""

    async def story(p: Plane) -> None:
        spec = await p.get("/openapi.json")
        bodies = json.dumps([call.get("requestBody") for path in spec["paths"].values() for call in path.values()])
        named = [name for name in spec["components"]["schemas"] if f'/{name}"' in bodies]
        assert named
        taken = {field for name in named for field in spec["components"]["schemas"][name].get("properties", {})}
        assert not taken & {"source", "uri", "url", "path", "samples", "lineage", "endpoint"}

    drive(tmp_path, story)
