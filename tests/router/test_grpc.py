"""The real Envoy and real gRPC clients: which call reaches whom, and with which code and sentence a call fails."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.limits import LIMITS, MIB
from contracts.names import Color
from contracts.protos import HEALTH_SERVICE, INFERENCE_SERVICE, MODEL_SERVICE, PREDICTION_SERVICE, SERVICES
from router.messages import message
from router.table import RoutingTable
from tests.router.calls import (
    HEALTH,
    INDEX,
    INFER,
    PREDICT,
    STATUS,
    Caller,
    caller,
    frame,
    infer,
    predict,
    spec,
    status,
    varint,
)  # fmt: skip
from tests.router.gateway import Gateway, alone, backend, both, gateway, raw, table, until

pytestmark = pytest.mark.e2e

PREDICTION, MODEL, INFERENCE = f"/{PREDICTION_SERVICE}/", f"/{MODEL_SERVICE}/", f"/{INFERENCE_SERVICE}/"

SPEC_1, SPEC_2 = spec("digits"), spec("digits", version=2)
MULTI = message("tensorflow.serving.MultiInferenceRequest", tasks=[{"model_spec": SPEC_2}, {"model_spec": spec("x")}])
META = message("tensorflow.serving.GetModelMetadataRequest", model_spec=SPEC_1, metadata_field=["signature_def"])
EXAMPLES = message("tensorflow.serving.Input", example_list={"examples": [{}]})
CLASSIFY = message("tensorflow.serving.ClassificationRequest", model_spec=SPEC_1, input=EXAMPLES)
LONGEST = "n" * 63

# (method, message, who answers, by which path)
CALLS: tuple[tuple[str, Any, str, str], ...] = (
    (PREDICT, predict("digits"), "one", "/v1/models/digits:predict"),
    (PREDICT, predict("digits", version=1), "one", "/v1/models/digits/versions/1:predict"),
    (PREDICT, predict("digits", version=2), "two", "/v1/models/digits/versions/2:predict"),
    (PREDICT, predict("digits", label="live"), "one", "/v1/models/digits/labels/live:predict"),
    (PREDICT, predict("digits", label="candidate"), "two", "/v1/models/digits/labels/candidate:predict"),
    (PREDICT, predict("digits.v2"), "three", "/v1/models/digits.v2:predict"),
    (PREDICT, predict(LONGEST, version=2**63 - 1), "four", f"/v1/models/{LONGEST}/versions/{2**63 - 1}:predict"),
    (PREDICTION + "Classify", CLASSIFY, "one", "/v1/models/digits:classify"),
    (PREDICTION + "Regress", CLASSIFY, "one", "/v1/models/digits:regress"),
    (PREDICTION + "MultiInference", MULTI, "two", "/v1/models/digits/versions/2:multiinference"),
    (PREDICTION + "GetModelMetadata", META, "one", "/v1/models/digits/metadata"),
    (INFER, infer("digits"), "one", "/v2/models/digits/infer"),
    (INFER, infer("digits", "2"), "two", "/v2/models/digits/versions/2/infer"),
    (INFERENCE + "ModelReady", message("inference.ModelReadyRequest", name="digits"), "one", "/v2/models/digits/ready"),
    (
        INFERENCE + "ModelReady",
        message("inference.ModelReadyRequest", name="digits", version="2"),
        "two",
        "/v2/models/digits/versions/2/ready",
    ),
    (INFERENCE + "ModelMetadata", message("inference.ModelMetadataRequest", name="digits"), "one", "/v2/models/digits"),
    # Any order of fields is the same message, the last of a kind counts, and what nobody knows is skipped.
    (PREDICT, frame(2, b"x" * 5000) + frame(1, SPEC_2.SerializeToString()), "two",
     "/v1/models/digits/versions/2:predict"),
    (PREDICT, frame(1, frame(1, b"x")) + frame(1, SPEC_1.SerializeToString()), "one", "/v1/models/digits:predict"),
    (PREDICT, frame(1, b"\x12\x02\x08\x02" + frame(1, b"digits")), "two", "/v1/models/digits/versions/2:predict"),
    (PREDICT, frame(1, frame(1, b"digits") + frame(4, b"live") + b"\x12\x02\x08\x02"), "two",
     "/v1/models/digits/versions/2:predict"),
    (PREDICT, frame(1, frame(1, b"digits") + b"\x12\x02\x08\x02" + frame(4, b"live")), "one",
     "/v1/models/digits/labels/live:predict"),
    (PREDICT, b"\x09" + b"8" * 8 + b"\x15" + b"4" * 4 + b"\x08\x01" + frame(1, SPEC_1.SerializeToString()), "one",
     "/v1/models/digits:predict"),
    (INFER, frame(7, b"x" * 900) + frame(2, b"2") + frame(5, b"") + frame(1, b"digits"), "two",
     "/v2/models/digits/versions/2/infer"),
)  # fmt: skip

UNKNOWN = "no such model is deployed here; deploy it with: teal deploy NAME"
DEPLOYED = "model digits has no such version deployed; deployed: 1, 2"
LABELS = "model digits has no such label; labels: blue, candidate, green, live"

# (method, message, code, what the sentence holds)
REFUSALS: tuple[tuple[str, Any, str, str], ...] = (
    *(
        (PREDICT, predict(name), "NOT_FOUND", UNKNOWN)
        for name in (
            "nobody", "digits2", "DIGITS", "../../etc/passwd", "a/b", "a%2fb", "digits:predict", "digits?x", "d\x00",
            "-", "a..b", "n" * 300, "dígits", "digits\r\nx: y", " digits", "digits ", "%64igits", "\U0001f600",
        )
    ),
    *((INFER, infer(name), "NOT_FOUND", UNKNOWN) for name in ("nobody", "../digits", "n" * 300, "digits/infer")),
    (STATUS, status("nobody"), "NOT_FOUND", UNKNOWN),
    *((PREDICT, predict("digits", version=v), "NOT_FOUND", DEPLOYED) for v in (0, 9, 12, 2**63 - 1, -1, -(2**63))),
    *(
        (INFER, infer("digits", v), "NOT_FOUND", DEPLOYED)
        for v in ("9", "x", "02", "-1", "1/../2", "1/infer?", "9" * 30, "1\n", " ")
    ),
    (STATUS, status("digits", version=9), "NOT_FOUND", DEPLOYED),
    *(
        (PREDICT, predict("digits", label=label), "INVALID_ARGUMENT", LABELS)
        for label in ("nope", "../versions/2", "live:predict", "l" * 300, "9", "é", "live/")
    ),
    (PREDICT, predict(""), "INVALID_ARGUMENT", "names no model"),
    (PREDICT, b"", "INVALID_ARGUMENT", "names no model"),
    (INFER, b"", "INVALID_ARGUMENT", "names no model"),
    (PREDICTION + "MultiInference", b"", "INVALID_ARGUMENT", "names no model"),
    (STATUS, b"", "INVALID_ARGUMENT", "names no model"),
    *(
        (PREDICT, malformed, "INVALID_ARGUMENT", "not valid protobuf")
        for malformed in (
            b"\xff\xff", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x05abc", b"\x02\x01", b"\x0b",
            b"\x80" * 11, frame(1, b"\x0a\x09abc"), frame(1, b"\x12\x02\x0a\x07"), b"\x0d123", b"\x09" + b"1" * 7,
        )
    ),
    (PREDICT, frame(9, b"") * 5000 + predict("digits").SerializeToString(), "INVALID_ARGUMENT", "4096 fields"),
    (PREDICT, frame(1, frame(9, b"") * 1000) * 5, "INVALID_ARGUMENT", "4096 fields"),
    (PREDICTION + "Train", b"", "UNIMPLEMENTED", "no such method"),
    ("/some.Service/Call", b"", "UNIMPLEMENTED", "no such method"),
    ("/Call", b"", "UNIMPLEMENTED", "no such method"),
    (MODEL + "HandleReloadConfigRequest", b"", "UNIMPLEMENTED", "teal deploy NAME"),
    (INFERENCE + "RepositoryModelLoad", b"", "UNIMPLEMENTED", "teal deploy NAME"),
    (INFERENCE + "RepositoryModelUnload", b"", "UNIMPLEMENTED", "teal drain NAME"),
    (INFERENCE + "ModelStreamInfer", b"", "UNIMPLEMENTED", "streams are not served"),
    (f"/{HEALTH_SERVICE}/Watch", b"", "UNIMPLEMENTED", "ask again with Check"),
    (HEALTH, message("grpc.health.v1.HealthCheckRequest", service="x.Y"), "NOT_FOUND", "no such service"),
)  # fmt: skip


async def models(g: Gateway) -> RoutingTable:
    one, two, three, four = [await g.worker(name) for name in ("one", "two", "three", "four")]
    digits = both("digits", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0)
    largest = replace(backend(4, Color.BLUE, four), version=2**63 - 1)
    return table(digits, alone("digits.v2", backend(3, Color.GREEN, three)), alone(LONGEST, largest))


def test_every_call_reaches_whom_it_names_and_every_refusal_has_its_code_and_its_sentence() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(await models(g))
            wrong = []
            for method, sent, worker, path in CALLS:
                answer = await c.call(method, sent)
                if answer.code != "OK" or (answer.said["worker"], answer.said["path"]) != (worker, path):
                    wrong.append((method, sent, answer))
            reached = sum(len(w.seen) for w in g.workers)
            for method, sent, code, words in REFUSALS:
                answer = await c.call(method, sent)
                if answer.code != code or words not in answer.words or answer.words.startswith("{"):
                    wrong.append((method, sent, answer))
            assert wrong == []
            assert sum(len(w.seen) for w in g.workers) == reached == len(CALLS)

    asyncio.run(story())


def test_a_worker_hears_what_rest_workers_hear_and_its_answer_names_who_answered() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(await models(g))
            mine = {"x-request-id": "mine", "x-teal-key": "k", "x-teal-version": "7", "x-envoy-attempt-count": "9",
                    "x-teal-answer": "1", "x-envoy-upstream-rq-timeout-ms": "1"}  # fmt: skip
            answer = await c.call(PREDICT, predict("digits"), metadata=tuple(mine.items()), timeout=5.0)
            assert answer.code == "OK"
            assert [answer.headers[f"x-teal-{h}"] for h in ("model", "version", "color")] == ["digits", "1", "blue"]
            assert answer.headers["x-request-id"] == "mine"
            ((method, path, seen),) = g.workers[0].seen
            assert (method, path) == ("POST", "/v1/models/digits:predict")
            assert seen["content-type"] == "application/grpc"
            assert seen["content-length"] == str(answer.said["length"])
            assert (seen["x-request-id"], seen["x-teal-key"], seen["x-envoy-attempt-count"]) == ("mine", "k", "1")
            assert "x-teal-version" not in seen
            assert "x-teal-answer" not in seen
            assert int(seen["x-envoy-expected-rq-timeout-ms"]) == pytest.approx(
                6000, abs=100
            )  # the caller's and a grace
            assert (await c.call(PREDICT, predict("digits", version=9))).headers["x-teal-model"] == "digits"

    asyncio.run(story())


def test_a_workers_own_error_and_an_answer_of_megabytes_pass_as_they_are() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(await models(g))
            for code in (3, 5, 8, 12, 13, 14):
                g.workers[0].behaviour.grpc = (code, "input x: expected 4")
                answer = await c.call(PREDICT, predict("digits"))
                expected = next(each.name for each in grpc.StatusCode if each.value[0] == code)
                assert (answer.code, answer.words) == (expected, "input x: expected 4")
            g.workers[0].name = "w" * 5 * MIB
            g.workers[0].behaviour.grpc = (0, "")
            assert len((await c.call(PREDICT, predict("digits"))).said["worker"]) == 5 * MIB

    asyncio.run(story())


def test_messages_up_to_the_limit_pass_wherever_they_name_the_model_and_larger_ones_do_not() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(await models(g))
            for size in (40_000, MIB, LIMITS.json_body + MIB, LIMITS.binary_body):
                answer = await c.call(PREDICT, message_of(size))
                assert (answer.code, answer.said["length"]) == ("OK", size), answer.words
            for size in (LIMITS.binary_body + 1, LIMITS.binary_body + MIB):
                answer = await c.call(PREDICT, message_of(size))
                assert answer.code == "RESOURCE_EXHAUSTED"
                assert f"over the limit of {LIMITS.binary_body} bytes" in answer.words
            head = f"POST {PREDICT} HTTP/1.1\r\nhost: t\r\ncontent-type: application/grpc\r\n"
            said = await raw(g, f"{head}content-length: {LIMITS.binary_body + 1}\r\n\r\n".encode() + b"x" * 1000)
            assert said.startswith("HTTP/1.1 200")
            assert "grpc-status: 8\r\n" in said
            assert len(g.workers[0].seen) == 4

    asyncio.run(story())


def message_of(size: int) -> bytes:
    """A PredictRequest of `size` bytes, frame included, that names its model at the very end."""
    end = predict("digits").SerializeToString()
    left = size - 5 - len(end)
    tensors = (frame(2, b"x" * (left - 1 - digits)) for digits in range(1, 6))
    return next(tensor for tensor in tensors if len(tensor) == left) + end


def test_calls_are_split_by_weight_and_a_key_keeps_its_version_whichever_protocol_it_comes_by() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            one, two = await g.worker("one"), await g.worker("two")
            blue, green = backend(1, Color.BLUE, one), backend(2, Color.GREEN, two)
            taken: list[set[int]] = []
            for percent in (10, 40):
                await g.router.publish(table(both("digits", blue, green, percent)))
                calls = [c.call(PREDICT, predict("digits"), metadata=(("x-teal-key", f"u{n}"),)) for n in range(300)]
                by_grpc = [a.headers["x-teal-version"] for a in await asyncio.gather(*calls)]
                posts = [g.post("/v1/models/digits:predict", headers={"x-teal-key": f"u{n}"}) for n in range(300)]
                assert by_grpc == [a.headers["x-teal-version"] for a in await asyncio.gather(*posts)]
                taken.append({n for n, version in enumerate(by_grpc) if version == "2"})
            assert taken[0] < taken[1]
            assert (10 <= len(taken[0]) <= 60, 80 <= len(taken[1]) <= 160) == (True, True)
            anyone = Counter([(await c.call(INFER, infer("digits"))).said["worker"] for _ in range(100)])
            assert set(anyone) == {"one", "two"}

    asyncio.run(story())


def test_status_of_all_versions_and_of_one_is_what_rest_says() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            one = await g.worker("one")
            digits = both("digits", backend(1, Color.BLUE, one), backend(2, Color.GREEN), 0)
            await g.router.publish(table(digits))
            for asked, path, versions in (
                (status("digits"), "", [2, 1]),
                (status("digits", label="live"), "/labels/live", [2, 1]),
                (status("digits", version=1), "/versions/1", [1]),
                (status("digits", version=2), "/versions/2", [2]),
            ):
                answer = await c.call(STATUS, asked)
                assert (answer.code, answer.headers["x-teal-model"]) == ("OK", "digits"), answer.words
                said = answer.read("tensorflow.serving.GetModelStatusResponse").model_version_status
                assert [each.version for each in said] == versions
                rest = (await g.get(f"/v1/models/digits{path}")).json()["model_version_status"]
                states = {20: "LOADING", 30: "AVAILABLE"}
                assert [(str(s.version), states[s.state]) for s in said] == [(r["version"], r["state"]) for r in rest]
                assert {(s.status.error_code, s.status.error_message) for s in said} == {(0, "")}
            assert one.seen == []

    asyncio.run(story())


def test_what_belongs_to_no_model_is_answered_with_the_control_plane_gone() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(RoutingTable())
            assert (await c.call(INFERENCE + "ServerReady")).read("inference.ServerReadyResponse").ready
            assert (await c.call(INDEX)).read("inference.RepositoryIndexResponse").models == []
            assert (await g.post("/v2/repository/index")).json() == []
            one = await g.worker("one")
            await g.router.publish(
                table(alone("digits", backend(1, Color.BLUE, one)), alone("x", backend(3, Color.BLUE)))
            )
            await g.router.stop()
            reason = "no worker of this version is ready yet"
            digits = {"name": "digits", "version": "1", "state": "READY", "reason": ""}
            both_models = [digits, {"name": "x", "version": "3", "state": "LOADING", "reason": reason}]
            for ready, sent, expected in (
                (False, b"", both_models), (False, b" { } ", both_models), (False, b'{"ready": false}', both_models),
                (True, b'{"ready":true}', [digits]),
            ):  # fmt: skip
                rest = await g.post("/v2/repository/index", content=sent)
                assert (rest.status_code, rest.json()) == (200, expected)
                assert rest.headers["content-type"] == "application/json"
                answer = await c.call(INDEX, message("inference.RepositoryIndexRequest", ready=ready))
                models = answer.read("inference.RepositoryIndexResponse").models
                assert [{f: getattr(m, f) for f in digits} for m in models] == expected
            for bad in (b"[]", b'{"ready": 1}', b'{"ready": true', b'{"ready": null}', b" " * 300, b"x" * 10_000):
                refused = await g.post("/v2/repository/index", content=bad)
                assert (refused.status_code, list(refused.json())) == (413 if len(bad) > 4096 else 400, ["error"])
            assert (await g.get("/v2/repository/index")).status_code == 405
            assert (await g.post("/v2/repository/models/digits/load")).status_code == 501
            assert (await c.call(INFERENCE + "ServerLive")).read("inference.ServerLiveResponse").live
            assert not (await c.call(INFERENCE + "ServerReady")).read("inference.ServerReadyResponse").ready
            server = (await c.call(INFERENCE + "ServerMetadata")).read("inference.ServerMetadataResponse")
            rest = (await g.get("/v2")).json()
            assert (server.name, server.version, list(server.extensions)) == tuple(rest.values())
            for service in ("", *SERVICES):
                answer = await c.call(HEALTH, message("grpc.health.v1.HealthCheckRequest", service=service))
                assert answer.read("grpc.health.v1.HealthCheckResponse").status == 1, service
            assert (await c.call(STATUS, status("digits"))).code == "OK"
            assert (await c.call(PREDICT, predict("digits"))).code == "OK"
            away = await reflect(c, "v1")
            assert (
                away
                == "UNAVAILABLE: reflection is answered by the control plane, which is away; predictions do not need it"
            )

    asyncio.run(story())


async def reflect(c: Caller, version: str) -> str:
    """The names of the services, or the error. When a call ends before all of its messages are written, grpc.aio
    sometimes says "Internal error from Core" instead of what it was told: then it is asked again."""
    for _ in range(5):
        said = await _reflect(c, version)
        if not said.endswith("Internal error from Core"):
            break
    return said


async def _reflect(c: Caller, version: str) -> str:
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    ask = reflection_pb2.ServerReflectionRequest
    call = c.channel.stream_stream(
        method, ask.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString
    )([ask(list_services=""), ask(file_containing_symbol="tensorflow.serving.PredictRequest")], timeout=20)  # fmt: skip
    try:
        names, file = [each async for each in call]
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    assert any(b"PredictRequest" in each for each in file.file_descriptor_response.file_descriptor_proto)
    return " ".join(sorted(each.name for each in names.list_services_response.service))


def test_reflection_lists_the_services_and_nothing_else_of_the_control_plane_is_reached() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(RoutingTable())
            assert await reflect(c, "v1") == await reflect(c, "v1alpha") == " ".join(sorted(SERVICES))
            ads = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            info = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            nodes = list(g.observer.nodes)
            for path in (
                f"/{ads}",
                f"//{ads}",
                f"{info}/../../../{ads}",
                f"/grpc.reflection.v1/../{ads}",
                f"{info}/{ads}",
            ):
                assert (await c.call(path, b"")).code == "UNIMPLEMENTED", path
            for path in (f"/{ads}", f"{info}/%2e%2e/{ads}", f"{info}%2f..%2f..%2f{ads}"):
                assert (await g.post(path)).status_code in (400, 404)
            assert g.observer.nodes == nodes

    asyncio.run(story())


def test_who_cannot_answer_now_is_unavailable_and_who_takes_too_long_misses_the_deadline() -> None:
    async def story() -> None:
        limits = replace(LIMITS, request_seconds=0.5)
        async with gateway(limits) as g, caller(g.config.port) as c:
            one, two = await g.worker("one"), await g.worker("two")
            await g.router.publish(
                table(alone("digits", backend(1, Color.BLUE, one)), alone("x", backend(2, Color.BLUE)))
            )
            none = await c.call(PREDICT, predict("x"))
            assert (none.code, none.words) == ("UNAVAILABLE", "no worker of this model version is ready; try again")
            one.behaviour.delay = 30
            late = await c.call(PREDICT, predict("digits"))
            assert (late.code, late.words) == ("DEADLINE_EXCEEDED", "no answer before the deadline")
            # A caller may name less than the limit, never more.
            await until(lambda: len(one.seen) == 1)
            named = c.call(PREDICT, predict("digits"), timeout=3600.0)
            assert (await named).code == "DEADLINE_EXCEEDED"
            waits = [int(seen["x-envoy-expected-rq-timeout-ms"]) for _, _, seen in one.seen]
            assert waits == [1500, 1500]
            one.behaviour.delay = 0
            bad = await c.call(PREDICT, predict("digits"), metadata=(("x-teal-key", "k"),))
            assert bad.code == "OK"
            await one.die()
            dead = await c.call(PREDICT, predict("digits"))
            assert dead.code == "UNAVAILABLE"
            assert "try again" in dead.words
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, two))))
            assert (await c.call(PREDICT, predict("digits"))).said["worker"] == "two"

    asyncio.run(story())


def test_a_worker_that_dies_with_a_call_costs_the_caller_nothing_while_another_lives() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            one, two = await g.worker("one"), await g.worker("two")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, one, two))))
            one.behaviour.delay = two.behaviour.delay = 60
            call = asyncio.create_task(c.call(PREDICT, message_of(MIB)))
            await until(lambda: one.seen or two.seen)
            one.behaviour.delay = two.behaviour.delay = 0
            await (one if one.seen else two).die()
            answer = await call
            assert answer.code == "OK", answer.words
            attempts = sorted(seen["x-envoy-attempt-count"] for w in (one, two) for _, _, seen in w.seen)
            assert attempts == ["1", "2"]

    asyncio.run(story())


def test_a_call_that_its_caller_gives_up_is_given_up_at_the_worker() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            one = await g.worker("one")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, one))))
            one.behaviour.delay = 60
            call = c.channel.unary_unary(PREDICT)(predict("digits").SerializeToString())
            waiting = asyncio.ensure_future(call.code())
            await until(lambda: bool(one.seen))
            assert one.waiting == 1
            call.cancel()
            await until(lambda: one.waiting == 0)
            assert await waiting is grpc.StatusCode.CANCELLED

    asyncio.run(story())


def http2(g: Gateway) -> httpx.AsyncClient:
    """For calls that no gRPC library would make."""
    return httpx.AsyncClient(base_url=g.client.base_url, http1=False, http2=True, timeout=20)


def test_what_is_no_single_plain_message_is_refused() -> None:
    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c, http2(g) as by_hand:
            await g.router.publish(await models(g))
            squeezed = await c.call(PREDICT, message_of(40_000), compression=grpc.Compression.Gzip)
            assert (squeezed.code, "grpc-encoding identity" in squeezed.words) == ("UNIMPLEMENTED", True)
            twice = c.channel.stream_unary(PREDICT)([predict("digits").SerializeToString()] * 2)
            with pytest.raises(grpc.aio.AioRpcError, match="exactly one message"):
                await twice
            nothing = c.channel.stream_unary(PREDICT)([])
            with pytest.raises(grpc.aio.AioRpcError, match="expected one message"):
                await nothing
            head = {"content-type": "application/grpc", "te": "trailers"}
            for timeout in ("abc", "-5m", "5", "123456789m", "1.5S", "5x", ""):
                answer = await by_hand.post(
                    PREDICT, headers={**head, "grpc-timeout": timeout}, content=framed("digits")
                )
                said = (answer.headers["grpc-status"], "grpc-timeout is not usable" in answer.headers["grpc-message"])
                assert said == ("3", True), timeout
            for timeout, wait in (("0m", 1000), ("1n", 1001), ("2500u", 1003), ("99999999H", 31_000), ("2S", 3000)):
                g.workers[0].seen.clear()
                answer = await by_hand.post(
                    PREDICT, headers={**head, "grpc-timeout": timeout}, content=framed("digits")
                )
                assert answer.status_code == 200
                ((_, _, seen),) = g.workers[0].seen
                assert (seen["grpc-timeout"], seen["x-envoy-expected-rq-timeout-ms"]) == (timeout, str(wait))
            for frame_head in (b"\0\0\0\0", b"\0\0\0\0\x09abc", b"\0\xff\xff\xff\xffabc"):
                answer = await by_hand.post(PREDICT, headers=head, content=frame_head)
                assert answer.headers["grpc-status"] == "3"
            # Without gRPC's content type it is a path like any other, and no worker is asked.
            before = sum(len(w.seen) for w in g.workers)
            for method in (PREDICT, STATUS, INDEX, HEALTH, INFERENCE + "ServerLive"):
                plain = await g.post(method, content=framed("digits"))
                assert (plain.status_code, list(plain.json())) == (404, ["error"])
            web = {"content-type": "application/grpc-web"}
            assert (await g.post(PREDICT, headers=web, content=framed("digits"))).status_code == 404
            for path in ("/v1/models/digits", "/v2/models/digits/ready", "/v1/models/digits/metadata"):
                for kind in ("application/x-protobuf", "application/grpc-web", "application/json"):
                    rest = await g.post(path, headers={"content-type": kind, "x-teal-answer": "1"})
                    assert rest.status_code in (400, 405), (path, kind)
            assert sum(len(w.seen) for w in g.workers) == before

    asyncio.run(story())


def framed(name: str) -> bytes:
    sent: bytes = predict(name).SerializeToString()
    return b"\0" + len(sent).to_bytes(4, "big") + sent


def test_however_a_message_is_written_it_goes_where_protobuf_says() -> None:
    """Fields in any order, several times, with strangers between: compared with what the library reads."""
    names = st.sampled_from(["digits", "digits.v2", "", "../x", "n" * 64, "é"])
    part = st.one_of(
        st.builds(lambda n: frame(1, frame(1, n.encode())), names),
        st.builds(
            lambda v: frame(1, frame(2, b"\x08" + varint(v))), st.integers(0, 2**64 - 1) | st.sampled_from([1, 2])
        ),
        st.builds(
            lambda label: frame(1, frame(4, label.encode())), st.sampled_from(["live", "candidate", "no", "../"])
        ),
        st.builds(lambda n: frame(20, b"x" * n), st.integers(0, 700)),
        st.builds(lambda n: varint(3000 << 3) + varint(n), st.integers(0, 2**64 - 1)),
        st.just(b"\xfd\x02" + b"4" * 4),
        st.just(frame(1, frame(3, b"serving_default"))),
    )

    async def go(parts: list[bytes]) -> None:
        sent = b"".join(parts)
        answer = await state["caller"].call(PREDICT, sent)
        said = strict(sent)
        if said is None or not said.model_spec.name:
            assert answer.code == "INVALID_ARGUMENT", answer
            return
        path, version, label = (
            "/v1/models/" + said.model_spec.name,
            said.model_spec.version,
            said.model_spec.version_label,
        )
        if said.model_spec.HasField("version"):
            path += f"/versions/{version.value}"
        elif label:
            path += f"/labels/{label}"
        if answer.code == "OK":
            assert answer.said["path"] == path + ":predict"
        else:
            known = {"digits": ({1, 2}, {"live", "candidate"}), "digits.v2": ({3}, {"live"})}.get(said.model_spec.name)
            versions, labels = known or ((), ())
            chosen = said.model_spec.WhichOneof("version_choice")
            assert not known or (version.value not in versions if chosen == "version" else label not in labels), answer
            assert answer.code in ("NOT_FOUND", "INVALID_ARGUMENT")

    def strict(sent: bytes) -> Any:
        try:
            return message("tensorflow.serving.PredictRequest").FromString(sent)
        except DecodeError:
            return None

    state: dict[str, Any] = {}

    async def story() -> None:
        async with gateway() as g, caller(g.config.port) as c:
            await g.router.publish(await models(g))
            state["caller"] = c
            loop = asyncio.get_running_loop()

            @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(part, max_size=6))
            def every(parts: list[bytes]) -> None:
                asyncio.run_coroutine_threadsafe(go(parts), loop).result(20)

            await asyncio.to_thread(every)

    asyncio.run(story())
