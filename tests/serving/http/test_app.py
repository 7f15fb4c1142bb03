"""What holds for every answer of a worker, whichever protocol: headers, limits, deadlines, departures, counting."""

import asyncio
import gzip
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts import metrics
from contracts.errors import TealError
from contracts.limits import LIMITS
from contracts.metrics import Outcome
from serving.engine.base import Array, Tensors
from serving.http.errors import status_of
from serving.http.incoming import seconds_allowed
from serving.state import Stage
from tests.fakes.clock import HandClock
from tests.serving.batching.bench import settle
from tests.serving.engines import FormulaEngine, half_plus_two
from tests.serving.http.asgi import Answer, Client, run

PREDICT = "/v1/models/half_plus_two:predict"
ROW = {"instances": [1.0]}
THREAD = 1.0  # a cost that sends runs into the thread


def predict(headers: dict[str, str] | None = None, body: Any = None, **kwargs: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.ask("POST", PREDICT, ROW if body is None else body, headers)

    return run(story, **kwargs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/other:predict", "/nothing", "/v2/health/live", "/metrics"])
def test_every_answer_says_who_answered(path: str) -> None:
    async def story(client: Client) -> Answer:
        return await client.ask("POST", path, ROW, {"x-request-id": "abc"})

    headers = run(story).headers
    assert headers["x-teal-model"] == "half_plus_two"
    assert headers["x-teal-version"] == "123"
    assert headers["x-teal-color"] == "green"
    assert headers["x-request-id"] == "abc"


def test_requests_without_an_id_get_different_ones() -> None:
    async def story(client: Client) -> set[str]:
        return {(await client.predict(ROW)).headers["x-request-id"] for _ in range(5)}

    assert len(run(story)) == 5


def test_an_endless_request_id_is_not_echoed() -> None:
    assert len(predict({"x-request-id": "a" * 5000}).headers["x-request-id"]) < 100


@pytest.mark.parametrize(
    "given",
    [
        {"x-teal-timeout-ms": "0"},
        {"x-envoy-expected-rq-timeout-ms": "0", "x-teal-timeout-ms": "50"},
        {"grpc-timeout": "0S"},
    ],
)
def test_a_deadline_that_is_over_is_504_without_compute(given: dict[str, str]) -> None:
    engine = half_plus_two()
    assert predict(given, engine=engine).status == 504
    assert engine.runs == []


@pytest.mark.parametrize("given", ["abc", "", "nan", "inf", "1_0", "1e999", "10 ms", "-5", "-0.001"])
def test_a_deadline_that_is_no_number_is_400(given: str) -> None:
    answer = predict({"x-teal-timeout-ms": given})
    assert answer.status == 400
    assert "x-teal-timeout-ms" in answer.json["error"]


@pytest.mark.parametrize("given", ["", "5", "S", "-5S", "5s", "123456789m", "1.5S", "5S5"])
def test_a_grpc_deadline_of_another_form_is_400(given: str) -> None:
    answer = predict({"grpc-timeout": given})
    assert answer.status == 400
    assert "grpc-timeout" in answer.json["error"]


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ({}, 30.0),
        ({b"grpc-timeout": b"2S"}, 2.0),
        ({b"grpc-timeout": b"99999999H"}, 30.0),
        ({b"grpc-timeout": b"7m"}, 0.007),
        ({b"grpc-timeout": b"70u"}, 70e-6),
        ({b"grpc-timeout": b"900n"}, 900e-9),
        ({b"grpc-timeout": b"1M", b"x-teal-timeout-ms": b"20", b"x-envoy-expected-rq-timeout-ms": b"10"}, 0.01),
    ],
)
def test_the_nearest_deadline_counts(head: dict[bytes, bytes], seconds: float) -> None:
    assert seconds_allowed(head, LIMITS) == pytest.approx(seconds)


@pytest.mark.parametrize("given", ["1000000000000", "30000.5", "250"])
def test_a_deadline_may_be_any_number_and_is_at_most_the_limit(given: str) -> None:
    assert predict({"x-teal-timeout-ms": given}).status == 200


def test_a_declared_body_over_the_limit_is_413_before_it_is_read_and_closes_the_connection() -> None:
    async def story(client: Client) -> Answer:
        async def receive() -> dict[str, Any]:
            raise AssertionError("the body was read")

        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": [(b"content-length", b"99999999999")]}
        await client.app(scope, receive, send)
        return Answer(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, sent[1]["body"])

    answer = run(story)
    assert answer.status == 413
    assert "connection" not in answer.headers  # the rest of the body is dropped, not cut off


def test_a_chunked_body_is_413_at_the_limit() -> None:
    chunks = [b" " * 100 for _ in range(1000)]

    async def story(client: Client) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": chunks.pop(), "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await client.app({"type": "http", "method": "POST", "path": PREDICT, "headers": []}, receive, send)
        return int(sent[0]["status"])

    assert run(story, limits=replace(LIMITS, json_body=1000)) == 413
    assert len(chunks) == 1000 - 11


def test_a_body_in_many_chunks_is_one_body() -> None:
    text = json.dumps(ROW).encode()
    assert predict(body=[text[i : i + 1] for i in range(len(text))]).status == 200


def test_gzip_is_read_and_bombs_are_413() -> None:
    gzipped = {"content-encoding": "gzip"}
    assert predict(gzipped, gzip.compress(json.dumps(ROW).encode())).json == {"predictions": [2.5]}
    bomb = gzip.compress(b" " * 2_000_000)
    assert predict(gzipped, bomb, limits=replace(LIMITS, json_body=1_000_000)).status == 413
    assert predict(gzipped, b"not gzip").status == 400
    assert predict(gzipped, gzip.compress(json.dumps(ROW).encode())[:-5]).status == 400
    assert predict({"content-encoding": "identity"}).status == 200


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "br,gzip,gzip", "x"])
def test_other_encodings_are_415(encoding: str) -> None:
    assert predict({"content-encoding": encoding}).status == 415


def test_a_worker_that_is_not_ready_says_503_and_when_to_come_back() -> None:
    answer = predict(loaded=False)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1

    async def story(client: Client) -> list[int]:
        paths = ["/v2/health/ready", "/v2/models/half_plus_two/ready", "/v2/health/live", "/v2/models/half_plus_two"]
        return [(await client.ask("GET", path)).status for path in paths]

    assert run(story, loaded=False) == [503, 503, 200, 503]


def test_a_draining_worker_answers_and_asks_to_be_left() -> None:
    async def story(client: Client) -> None:
        client.state.move(Stage.DRAINING, "asked to stop")
        answer = await client.predict(ROW)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert (await client.ask("GET", "/v2/health/ready")).status == 503

    run(story)


def test_a_full_queue_is_503_with_retry_after() -> None:
    async def story(client: Client) -> None:
        answers = await asyncio.gather(*(client.predict({"instances": [1.0] * 8}) for _ in range(5)))
        refused = [a for a in answers if a.status == 503]
        assert refused
        assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
        assert [a.json["predictions"] for a in answers if a.status == 200] == [[2.5] * 8] * (5 - len(refused))
        assert client.telemetry.rejected["queue_full"] == len(refused)
        assert client.telemetry.outcomes[Outcome.OVERLOAD] == len(refused)

    run(story, limits=replace(LIMITS, queue_rows=16), cost=THREAD)


class Gate:
    """An engine whose runs wait until the test opens the gate."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.engine = FormulaEngine(self.formula)

    def formula(self, inputs: Tensors) -> dict[str, Array]:
        self.entered.set()
        assert self.opened.wait(30)
        return {"y": inputs["x"]}

    async def somebody_is_inside(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


def test_a_client_that_hangs_up_while_it_waits_costs_no_compute_and_disturbs_nobody() -> None:
    gate = Gate()

    async def story(client: Client) -> None:
        running = asyncio.create_task(client.predict({"instances": [1.0]}))
        await gate.somebody_is_inside()
        gone = asyncio.Event()
        waiting = asyncio.create_task(client.send("POST", PREDICT, json.dumps(ROW).encode(), hang_up=gone))
        staying = asyncio.create_task(client.predict({"instances": [3.0]}))
        gone.set()
        assert await waiting is None
        gate.opened.set()
        assert (await running).json == {"predictions": [1.0]}
        assert (await staying).json == {"predictions": [3.0]}
        assert gate.engine.runs == [1, 1]
        assert client.telemetry.outcomes[Outcome.CANCELLED] == 1

    run(story, gate.engine, cost=THREAD)


def test_a_run_that_outlasts_the_deadline_is_504_at_the_deadline() -> None:
    clock, gate = HandClock(), Gate()

    async def story(client: Client) -> None:
        waiting = asyncio.create_task(client.ask("POST", PREDICT, ROW, {"x-teal-timeout-ms": "50"}))
        await gate.somebody_is_inside()
        clock.move(0.049)
        await settle()
        assert not waiting.done()
        clock.move(0.002)
        assert (await waiting).status == 504
        assert client.telemetry.outcomes[Outcome.TIMEOUT] == 1
        gate.opened.set()

    run(story, gate.engine, clock=clock, cost=THREAD)


def test_a_failing_model_is_500_without_its_secrets() -> None:
    answer = predict(engine=half_plus_two(poison=1.0))
    assert answer.status == 500
    assert answer.json == {"error": "the model failed on this input"}


def test_what_nobody_foresaw_is_500_without_details() -> None:
    async def story(client: Client) -> Answer:
        client.app.served = object()  # type: ignore[assignment]
        return await client.predict(ROW)

    answer = run(story)
    assert answer.status == 500
    assert "Attribute" in answer.json["error"]
    assert "object" not in answer.json["error"]


def test_every_error_of_the_tree_has_a_status() -> None:
    def tree(kind: type[TealError]) -> list[type[TealError]]:
        return [kind, *(k for child in kind.__subclasses__() for k in tree(child))]

    # The control plane's own errors, which other tests may have loaded, never reach a worker.
    ours = [kind for kind in tree(TealError) if kind.__module__.split(".")[0] in ("contracts", "serving")]
    statuses = {kind.__name__: status_of(kind("x")) for kind in ours}
    assert statuses["UnknownLabel"] == 400
    assert statuses["Overloaded"] == 503
    assert [name for name, status in statuses.items() if status == 500] == ["TealError", "Internal", "WrongOutputs"]


def test_every_series_exists_before_the_first_request_and_each_request_counts_once() -> None:
    async def story(client: Client) -> tuple[str, str]:
        before = (await client.ask("GET", "/metrics")).body.decode()
        for body in (ROW, {"instances": ["x"]}, {"instances": [1, 2, 3]}):
            await client.predict(body)
        return before, (await client.ask("GET", "/metrics")).body.decode()

    before, after = run(story)
    for metric in metrics.WORKER_METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in before.replace(f"{metric.name}_total", metric.name)
    labels = 'color="green",model="half_plus_two"'
    for outcome in Outcome:
        assert f'teal_requests_total{{{labels},outcome="{outcome}",version="123"}} 0.0' in before
    assert f'teal_requests_total{{{labels},outcome="ok",version="123"}} 2.0' in after
    assert f'teal_requests_total{{{labels},outcome="client_error",version="123"}} 1.0' in after
    assert f'teal_request_duration_seconds_count{{{labels},version="123"}} 3.0' in after
    assert f'teal_request_rows_total{{{labels},version="123"}} 4.0' in after
    assert f'teal_rejected_total{{{labels},reason="invalid",version="123"}} 1.0' in after
    assert before.count("\n") == after.count("\n"), "requests made new series"


def test_the_worker_says_what_it_is() -> None:
    async def story(client: Client) -> Answer:
        return await client.ask("GET", "/worker")

    worker = run(story).json
    assert {"model", "version", "color", "digest", "plan", "pid", "state", "reason", "suspicion", "threads"} == set(
        worker
    )
    assert worker["state"] == "ready"


def test_rows_of_concurrent_callers_never_mix() -> None:
    async def story(client: Client) -> None:
        rng = np.random.default_rng(1)
        sizes = rng.integers(1, 12, 60)
        sent = [[float(i * 100 + j) for j in range(n)] for i, n in enumerate(sizes)]
        answers = await asyncio.gather(*(client.predict({"instances": rows}) for rows in sent))
        for rows, answer in zip(sent, answers, strict=True):
            assert answer.json["predictions"] == [r / 2 + 2 for r in rows]

    for cost in (10e-6, 100e-6, THREAD / 100):
        run(story, cost=cost)


@pytest.mark.parametrize("tail", [b"tail", gzip.compress(b"{}")], ids=["garbage", "another member"])
def test_what_follows_a_packed_body_is_refused_and_not_dropped(tail: bytes) -> None:
    answer = predict({"content-encoding": "gzip"}, gzip.compress(json.dumps(ROW).encode()) + tail)
    assert answer.status == 400
    assert "follows the end" in answer.json["error"]


@pytest.mark.parametrize(("left", "given", "status"), [("0", None, 504), ("0", "5000", 504), ("31000", "5000", 200)])
def test_what_envoy_has_left_of_its_patience_bounds_the_deadline(left: str, given: str | None, status: int) -> None:
    headers = {"x-envoy-expected-rq-timeout-ms": left} | ({} if given is None else {"x-teal-timeout-ms": given})
    engine = half_plus_two()
    assert predict(headers, engine=engine).status == status
    assert engine.runs == [1] * (status == 200)
