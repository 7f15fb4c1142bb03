"""What a worker tells of its answers afterwards: by request id, by share, and counted by bin."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from tests.fakes.clock import HandClock
from tests.serving.engines import FormulaEngine
from tests.serving.http.asgi import Answer, Client, run
from tests.serving.http.test_grpc import ONE, call
from tests.serving.http.test_wire import Served, request, told


def test_answers_are_told_by_request_id_whichever_way_they_came() -> None:
    async def story(client: Client) -> tuple[Any, Any]:
        for name, body in (
            ("a", {"instances": [1.0, 2.0]}),
            ("b", {"instances": [0.0]}),
            ("refused", {"instances": ["x"]}),
        ):
            await client.ask("POST", "/v1/models/half_plus_two:predict", body, {"x-request-id": name})
        told = await client.ask("POST", "/worker/answers", {"ids": ["b", "refused", "a"]})
        latest = (await client.ask("GET", "/worker/answers")).json
        since = (await client.ask("GET", "/worker/answers?after=0&share=1")).json
        assert since["next"] == latest["next"]
        assert latest["answers"] == []
        return told.json["answers"], since["answers"]

    for cost in (10e-6, 10e-3):
        told, since = run(story, cost=cost)
        assert [(a["id"], a["rows"], a["kind"], a["predicted"]) for a in told] == [
            ("b", 1, "score", [2.0]),
            ("a", 2, "score", [2.5, 3.0]),
        ]
        assert [a["id"] for a in since] == ["a", "b"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/worker/answers", b"{"),
        ("POST", "/worker/answers", b'{"ids":["a",1]}'),
        ("POST", "/worker/answers", b'{"ids":"a"}'),
        ("POST", "/worker/answers", json.dumps({"ids": ["a"] * 1001}).encode()),
        ("GET", "/worker/answers?share=0", b""),
        ("GET", "/worker/answers?share=half", b""),
        ("GET", "/worker/answers?after=nan", b""),
    ],
)
def test_a_question_about_answers_that_is_none_is_refused(method: str, path: str, body: bytes) -> None:
    async def story(client: Client) -> Answer:
        return await client.ask(method, path, body)

    answer = run(story)
    assert answer.status == 400
    assert "expected" in answer.json["error"]


def test_predictions_are_counted_by_bin_from_one_run_in_ten_milliseconds() -> None:
    clock = HandClock()

    async def story(client: Client) -> list[int]:
        for _ in range(3):
            await client.predict({"instances": [1.0, 1.0]})
            await client.predict({"instances": [-8.0]})
            clock.move(0.01)
        return client.telemetry.prediction_bins.tolist()

    counts = run(story, clock=clock)
    assert sorted(n for n in counts if n) == [6]  # 2.5 twice in each of three looks; -2.0 always came too soon after


def test_a_model_whose_outputs_cannot_be_counted_answers_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    squares = Signature(
        "serving_default",
        (TensorSpec("x", "float32", (None,)),),
        (TensorSpec("y", "float32", (None, 2, 2)),),
        batched=True,
    )
    engine = FormulaEngine(lambda inputs: {"y": np.zeros((len(inputs["x"]), 2, 2), np.float32)})
    clock = HandClock()

    async def story(client: Client) -> list[int]:
        for _ in range(3):
            assert (await client.predict({"instances": [1.0]})).status == 200
            clock.move(1)
        return [int(client.telemetry.prediction_bins.sum())]

    with caplog.at_level("INFO"):
        assert run(story, engine, (squares,), clock=clock) == [0]
    said = [r.getMessage() for r in caplog.records if "are not counted" in r.getMessage()]
    assert len(said) == 1
    assert "float32 [1, 2, 2]" in said[0]


def test_the_short_way_remembers_rest_and_grpc_alike(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(request([1.0, 2.0], "x-request-id: rest"))
            await wire.reply()
            wire.send(call(ONE, "x-request-id: grpc"))
            await wire.reply()
        assert served.asgi_calls == []
        answers = (await served.client.ask("POST", "/worker/answers", {"ids": ["rest", "grpc"]})).json["answers"]
        assert [(a["id"], a["predicted"]) for a in answers] == [("rest", [2.5, 3.0]), ("grpc", [2.5, 3.0])]

    told(tmp_path, story)
