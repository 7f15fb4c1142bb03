"""gRPC as Envoy hands it on: a framed message over HTTP/1.1, answered with trailers, or with headers alone."""

import asyncio
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from contracts import errors
from contracts.limits import LIMITS
from contracts.signature import Signature, TensorSpec
from serving.http.errors import grpc_status_of
from serving.http.rpc import refusal
from serving.state import Stage
from tests.serving.codec.calls import example, examples, floats, infer, oip, predict, tfs
from tests.serving.engines import FormulaEngine, half_plus_two
from tests.serving.http.asgi import Client, run
from tests.serving.http.test_wire import Served, Wire, request, told, until

PREDICT = "/v1/models/half_plus_two:predict"
INFER = "/v2/models/half_plus_two/infer"
ONE = predict({"x": floats(1, 2)})


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def call(message: bytes, *headers: str, path: str = PREDICT, whole: bytes | None = None) -> bytes:
    return request(whole or framed(message), "content-type: application/grpc", "te: trailers", *headers, path=path)


def chunked(pieces: list[bytes], *headers: str, path: str = PREDICT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: w", "content-type: application/grpc+proto", "transfer-encoding: chunked"]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


# What Envoy counts by: 4 for the caller's fault, 5 for the version's.
WHOSE_FAULT = {0: "200", 3: "400", 4: "504", 5: "400", 8: "400", 12: "400", 13: "500", 14: "503"}


class Reply:
    """What came back: the headers, the message when there is one, and how it ended."""

    def __init__(self, headers: dict[str, str], body: bytes, trailers: dict[str, str]) -> None:
        self.headers, self.trailers = headers, trailers
        ending = trailers or headers
        self.status = int(ending["grpc-status"])
        self.sentence = unquote(ending.get("grpc-message", ""))
        assert bool(body) == (self.status == 0)
        if body:
            assert struct.unpack(">BI", body[:5]) == (0, len(body) - 5)
        self.message = body[5:]

    def parsed(self, kind: Any) -> Any:
        return kind.FromString(self.message)


async def reply(wire: Wire) -> Reply:
    async with asyncio.timeout(10):
        head = (await wire.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        assert headers["content-type"] == "application/grpc"
        code = int(headers.get("grpc-status", 0))
        assert head[0].split()[1] == WHOSE_FAULT[code]
        if "content-length" in headers:
            assert headers["content-length"] == "0"
            return Reply(headers, b"", {})
        body = b""
        while size := int(await wire.reader.readuntil(b"\r\n"), 16):
            body += (await wire.reader.readexactly(size + 2))[:-2]
        trailers = {}
        while (line := await wire.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode().strip().partition(": ")
            trailers[name] = value
    return Reply(headers, body, trailers)


def outputs(answer: Reply) -> list[float]:
    tensor = answer.parsed(tfs("PredictResponse")).outputs["y"]
    return [float(value) for value in np.frombuffer(tensor.tensor_content, np.float32)]


@pytest.mark.parametrize("cost", [10e-6, 1.0], ids=["at once", "in the thread"])
def test_a_prediction_is_answered_with_trailers_and_counted(tmp_path: Path, cost: float) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for n in range(3):
                wire.send(call(ONE, f"x-request-id: r{n}"))
                answer = await reply(wire)
                assert outputs(answer) == [2.5, 3.0]
                assert answer.trailers == {"grpc-status": "0"}
                assert answer.parsed(tfs("PredictResponse")).model_spec.version.value == 123
                assert answer.headers["x-request-id"] == f"r{n}"
                assert (answer.headers["x-teal-version"], answer.headers["x-teal-color"]) == ("123", "green")
        assert len(served.asgi_calls) == (0 if cost < 1 else 3)
        telemetry = served.client.telemetry
        assert (telemetry.outcomes["ok"], telemetry.rows) == (3, 6)
        assert sum(telemetry.request_seconds.counts) == 3

    told(tmp_path, story, cost=cost)


def test_rest_and_grpc_give_the_same_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(7).normal(size=8).astype(np.float32)

    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(request([float(v) for v in values]))
            rest = json.loads((await wire.reply()).body)["predictions"]
            wire.send(call(predict({"x": values})))
            assert np.array(rest, np.float32).tolist() == outputs(await reply(wire))
            for raw in (True, False):
                wire.send(call(infer({"x": values}, raw=raw).SerializeToString(), path=INFER))
                response = (await reply(wire)).parsed(oip("ModelInferResponse"))
                contents = response.outputs[0].contents.fp32_contents
                given = np.frombuffer(response.raw_output_contents[0], np.float32) if raw else contents
                assert list(given) == np.array(rest, np.float32).tolist()
        assert served.asgi_calls == []

    told(tmp_path, story)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_message_in_chunks_takes_the_short_way_too(tmp_path: Path, size: int) -> None:
    async def story(served: Served) -> None:
        body = framed(ONE)
        async with served.connection() as wire:
            wire.send(chunked([body[i : i + size] for i in range(0, len(body), size)]))
            assert outputs(await reply(wire)) == [2.5, 3.0]
            wire.send(request([1.0]))
            assert (await wire.reply()).status == 200
        assert served.asgi_calls == []

    told(tmp_path, story)


def test_a_big_message_in_chunks_leaves_the_short_way_on_its_way(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        body = framed(predict({"x": np.arange(60_000, dtype=np.float32)}))
        async with served.connection() as wire:
            wire.send(chunked([body[i : i + 5000] for i in range(0, len(body), 5000)]))
            wire.send(call(ONE))
            first = await reply(wire)
            assert first.status == 8  # more rows than may wait
            assert "60000 rows" in first.sentence
            assert outputs(await reply(wire)) == [2.5, 3.0]
        assert len(served.asgi_calls) == 2

    told(tmp_path, story)


def test_bytes_one_by_one_and_pipelined_calls_are_answered_in_order(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for byte in call(ONE):
                wire.send(bytes([byte]))
                await wire.writer.drain()
                await asyncio.sleep(0)
            assert outputs(await reply(wire)) == [2.5, 3.0]
            calls = [predict({"x": floats(n)}) for n in range(30)]
            wire.send(
                b"".join(
                    call(c) if n % 3 else chunked([framed(c)], "x-envoy-attempt-count: 2") for n, c in enumerate(calls)
                )
            )
            for n in range(30):
                assert outputs(await reply(wire)) == [n / 2 + 2]

    told(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 3, "at least 5 bytes, got 0"),
        (b"\0\0\0\0", 3, "got 4"),
        (b"\2\0\0\0\0", 3, "begins with 0 or 1"),
        (framed(ONE)[:-1], 3, "exactly one gRPC message"),
        (framed(ONE) * 2, 3, "exactly one gRPC message"),
        (framed(ONE, 1), 12, "grpc-encoding identity"),
        (b"\0\xff\xff\xff\xff", 8, "over the limit"),
        (framed(b"\xff\xff"), 3, "is no tensorflow.serving.PredictRequest"),
        (framed(predict({"x": floats(1).astype("f8")})), 3, 'input "x": expected float32 [rows], got float64 [1]'),
    ],
)
def test_what_is_no_message_ends_with_its_code_and_the_connection_lives_on(
    tmp_path: Path, body: bytes, status: int, words: str
) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            for attempt in ("1", "2"):  # on the short way and on the other
                wire.send(
                    request(body, "content-type: application/grpc", f"x-envoy-attempt-count: {attempt}", path=PREDICT)
                )
                answer = await reply(wire)
                assert (answer.status, words in answer.sentence) == (status, True), answer.sentence
                assert answer.headers["x-teal-model"] == "half_plus_two"
                assert ("grpc-accept-encoding" in answer.headers) == (status == 12)
            wire.send(call(ONE))
            assert (await reply(wire)).status == 0
        assert served.client.telemetry.outcomes["client_error"] == 2
        assert sum(served.client.telemetry.request_seconds.counts) == 3

    told(tmp_path, story)


def test_a_body_over_the_limit_is_refused_by_its_length_alone(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(
                call(b"", f"content-length: {LIMITS.binary_body + 6}", whole=b"x").replace(
                    b"Content-Length: 1\r\n", b""
                )
            )
            assert (await reply(wire)).status == 8

    told(tmp_path, story)


def test_a_body_of_unknown_length_is_refused_when_it_passes_the_limit(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(chunked([bytes(50_000)] * 5))
            assert (await reply(wire)).status == 8

    told(tmp_path, story, limits=replace(LIMITS, binary_body=100_000))


def test_every_error_of_the_tree_has_a_code_and_a_message_fit_for_a_header() -> None:
    codes = {
        errors.InvalidInput: 3, errors.UnknownLabel: 3, errors.Quarantined: 3, errors.DeadlineExceeded: 4,
        errors.NotFound: 5, errors.TooLarge: 8, errors.Conflict: 9, errors.Unsupported: 12,
        errors.UnsupportedMedia: 12, errors.Internal: 13, errors.Unavailable: 14, errors.Overloaded: 14,
    }  # fmt: skip
    for kind, code in codes.items():
        headers = dict(refusal(kind('100 % "ünïcode"\r\nx: y\x7f')).headers)
        assert headers[b"grpc-status"] == b"%d" % code
        assert headers[b"grpc-message"] == b'100 %25 "%C3%BCn%C3%AFcode"%0D%0Ax: y%7F'
    assert grpc_status_of(errors.TealError("nobody put this into the table")) == 13


def test_a_worker_that_is_not_ready_is_unavailable(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(call(ONE))
            assert (await reply(wire)).status == 14
            wire.send(call(b"", path="/v2/models/half_plus_two/ready"))
            assert (await reply(wire)).parsed(oip("ModelReadyResponse")).ready is False
            wire.send(call(b"", path="/v2/models/half_plus_two"))
            assert (await reply(wire)).status == 14

    told(tmp_path, story, loaded=False)


@pytest.mark.parametrize("cost", [10e-6, 1.0], ids=["at once", "in the thread"])
def test_a_draining_worker_answers_and_closes(tmp_path: Path, cost: float) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            served.client.state.move(Stage.DRAINING, "asked to stop")
            wire.send(call(ONE))
            answer = await reply(wire)
            assert outputs(answer) == [2.5, 3.0]
            assert answer.headers["connection"] == "close"
            assert await wire.ended()

    told(tmp_path, story, cost=cost)


def test_a_failing_model_is_internal_and_a_deadline_that_is_over_is_4(tmp_path: Path) -> None:
    engine = half_plus_two(poison=13.0)

    async def story(served: Served) -> None:
        async with served.connection() as wire:
            wire.send(call(predict({"x": floats(13)})))
            answer = await reply(wire)
            assert (answer.status, answer.sentence) == (13, "the model failed on this input")
            wire.send(call(ONE, "grpc-timeout: 0m"))
            assert (await reply(wire)).status == 4
            wire.send(call(ONE, "grpc-timeout: soon"))
            assert (await reply(wire)).status == 3
        assert engine.runs == [1]
        counted = served.client.telemetry.outcomes
        assert (counted["server_error"], counted["timeout"], counted["client_error"]) == (1, 1, 1)

    told(tmp_path, story, engine=engine)


def test_a_caller_who_leaves_is_not_computed(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = served.client
        assert client.app.served is not None
        batcher = client.app.served.batcher
        started = asyncio.Event()
        submit = batcher.submit

        def watched(*args: Any, **kwargs: Any) -> Any:
            started.set()
            return submit(*args, **kwargs)

        batcher.submit = watched  # type: ignore[method-assign]
        batcher._driver.cancel()  # type: ignore[union-attr] # nobody takes what waits
        async with served.connection() as wire:
            wire.send(call(ONE))
            await started.wait()
            assert batcher.queued_rows == 2
        await until(lambda: client.telemetry.outcomes["cancelled"] == 1)
        assert batcher.queued_rows == 0

    told(tmp_path, story, cost=1.0)


CLASSES = Signature(
    "classes",
    (TensorSpec("examples", "string", (None,)),),
    (TensorSpec("classes", "string", (None, 1)), TensorSpec("scores", "float32", (None, 1))),
    batched=True,
    method_name="tensorflow/serving/classify",
)
SIZES = Signature(
    "serving_default",
    (TensorSpec("examples", "string", (None,)),),
    (TensorSpec("outputs", "float32", (None, 1)),),
    batched=True,
    method_name="tensorflow/serving/regress",
)


class Sizes(FormulaEngine):
    """Answers how long each serialized example is."""

    def __init__(self) -> None:
        super().__init__(lambda inputs: {})

    def run(self, signature: str, inputs: Any) -> dict[str, Any]:
        lengths = [[len(text)] for text in inputs["examples"]]
        if signature == SIZES.name:
            return {"outputs": np.array(lengths, np.float32)}
        labels = np.array([[b"%d bytes" % n] for [n] in lengths], object)
        return {"scores": np.array(lengths, np.float32), "classes": labels}


@pytest.mark.parametrize("cost", [10e-6, 1.0], ids=["at once", "in the thread"])
def test_classify_regress_and_both_of_them_at_once(tmp_path: Path, cost: float) -> None:
    given = [example(x=[1.0]), example()]
    length = float(len(given[0].SerializeToString()))

    async def story(served: Served) -> None:
        async with served.connection() as wire:
            base = "/v1/models/half_plus_two/versions/123"
            wire.send(call(examples("RegressionRequest", given), path=f"{base}:regress"))
            regressed = (await reply(wire)).parsed(tfs("RegressionResponse"))
            assert [each.value for each in regressed.result.regressions] == [length, 0]
            wire.send(call(examples("ClassificationRequest", given, signature="classes"), path=f"{base}:classify"))
            classified = (await reply(wire)).parsed(tfs("ClassificationResponse"))
            assert [c.classes[0].label for c in classified.result.classifications] == [
                f"{int(length)} bytes",
                "0 bytes",
            ]
            both = tfs("MultiInferenceRequest")()
            both.input.example_list.examples.extend(given)
            for signature in (SIZES, CLASSES):
                both.tasks.add(method_name=signature.method_name).model_spec.signature_name = signature.name
            wire.send(call(both.SerializeToString(), path=f"{base}:multiinference"))
            first, second = (await reply(wire)).parsed(tfs("MultiInferenceResponse")).results
            assert first.regression_result.regressions[0].value == length
            assert second.classification_result.classifications[0].classes[0].score == length
            assert second.model_spec.version.value == 123
            wire.send(request(b"{}", path=f"{base}:multiinference"))
            assert (await wire.reply()).status == 400  # there is no such thing as JSON
        assert served.client.telemetry.outcomes["ok"] == 3

    told(tmp_path, story, engine=Sizes(), signatures=(SIZES, CLASSES), cost=cost)


def test_what_is_known_about_the_model(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        async with served.connection() as wire:
            asked = tfs("GetModelMetadataRequest")(metadata_field=["signature_def"]).SerializeToString()
            wire.send(call(asked, path="/v1/models/half_plus_two/metadata"))
            metadata = (await reply(wire)).parsed(tfs("GetModelMetadataResponse"))
            assert metadata.metadata["signature_def"].type_url.endswith("/tensorflow.serving.SignatureDefMap")
            wire.send(call(b"", path="/v1/models/half_plus_two/metadata"))
            assert (await reply(wire)).status == 3
            wire.send(call(b"", path="/v1/models/half_plus_two"))
            [status] = (await reply(wire)).parsed(tfs("GetModelStatusResponse")).model_version_status
            assert (status.version, status.state, status.status.error_code) == (123, 30, 0)
            wire.send(call(b"", path="/v2/models/half_plus_two"))
            described = (await reply(wire)).parsed(oip("ModelMetadataResponse"))
            assert (described.name, list(described.versions), described.inputs[0].datatype) == (
                "half_plus_two",
                ["123"],
                "FP32",
            )
            wire.send(call(b"", path="/v2/models/half_plus_two/versions/123/ready"))
            assert (await reply(wire)).parsed(oip("ModelReadyResponse")).ready is True
            for path, code in (("/v2/models/other", 5), ("/v1/models/half_plus_two/versions/9", 5), ("/metrics", 5)):
                wire.send(call(b"", path=path))
                assert (await reply(wire)).status == code

    told(tmp_path, story)


def test_grpc_web_and_json_are_not_taken_for_grpc() -> None:
    async def story(client: Client) -> None:
        for kind in ("application/grpc-web", "application/json", "application/grpcx"):
            answer = await client.ask("POST", PREDICT, b'{"instances":[1.0]}', {"content-type": kind})
            assert answer.json == {"predictions": [2.5]}

    run(story)
