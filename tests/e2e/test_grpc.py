"""gRPC clients against the real gateway: the same models, numbers, versions and shares of traffic as over REST."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.gateway import Gateway, eventually
from tests.serving.codec.calls import example, oip, tfs

pytestmark = pytest.mark.e2e

PREDICTION, MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
INFERENCE = "/inference.GRPCInferenceService/"


class Caller:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def ask(self, path: str, message: Any, answer: Any, **how: Any) -> Any:
        call = self._channel.unary_unary(path, lambda m: m.SerializeToString(), answer.FromString)
        return call.with_call(message, timeout=how.pop("timeout", 30), **how)

    def predict(self, rows: np.ndarray, metadata: Any = (), **spec: Any) -> tuple[Any, dict[str, str]]:
        """The response and the headers it came with."""
        request = tfs("PredictRequest")()
        set_spec(request.model_spec, "digits", **spec)
        set_tensor(request.inputs["image"], rows)
        response, call = self.ask(PREDICTION + "Predict", request, tfs("PredictResponse"), metadata=metadata)
        return response, dict(call.initial_metadata())


def set_spec(spec: Any, name: str, version: int | None = None, label: str = "", signature: str = "") -> None:
    spec.name, spec.signature_name = name, signature
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label


def set_tensor(tensor: Any, rows: np.ndarray) -> None:
    tensor.dtype = 1
    for size in rows.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = rows.tobytes()


def numbers(response: Any) -> np.ndarray:
    [tensor] = response.outputs.values()
    return np.frombuffer(tensor.tensor_content, np.float32).reshape([d.size for d in tensor.tensor_shape.dim])


@pytest.fixture(scope="module")
def caller(spoken_to: Gateway) -> Iterator[Caller]:
    with grpc.insecure_channel(f"127.0.0.1:{spoken_to.port}") as channel:
        yield Caller(channel)


def rest(gateway: Gateway, rows: np.ndarray, version: int) -> np.ndarray:
    answer = gateway.predict({"instances": rows.tolist()}, f"/v1/models/digits/versions/{version}:predict")
    return np.array(answer.json["predictions"], np.float32)


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("version", [1, 2])
def test_a_version_answers_the_numbers_it_answers_over_rest(
    spoken_to: Gateway, caller: Caller, images: np.ndarray, version: int, rows: int
) -> None:
    response, headers = caller.predict(images[:rows], version=version)
    assert np.allclose(numbers(response), rest(spoken_to, images[:rows], version), atol=1e-6)
    assert (response.model_spec.name, response.model_spec.version.value) == ("digits", version)
    assert (headers["x-teal-model"], headers["x-teal-version"]) == ("digits", str(version))
    assert headers["x-request-id"]


def test_labels_weights_and_keys_mean_what_they_mean_over_rest(
    spoken_to: Gateway, caller: Caller, images: np.ndarray
) -> None:
    assert caller.predict(images[:1], label="next")[0].model_spec.version.value == 2
    assert caller.predict(images[:1], label="live")[0].model_spec.version.value == 1
    served = {caller.predict(images[:1])[0].model_spec.version.value for _ in range(60)}
    assert served == {1, 2}
    for key in (f"user-{n}" for n in range(10)):
        over_rest = spoken_to.predict({"instances": images[:1].tolist()}, x_teal_key=key).headers["x-teal-version"]
        answered = {caller.predict(images[:1], [("x-teal-key", key)])[1]["x-teal-version"] for _ in range(3)}
        assert answered == {over_rest}


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"version": 99}, grpc.StatusCode.NOT_FOUND),
        ({"label": "nobody_set_it"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"signature": "nope"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_does_not_exist_has_its_code(caller: Caller, images: np.ndarray, spec: Any, code: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.predict(images[:1], **spec)
    assert refused.value.code() is code


def test_a_wrong_shape_is_told_in_a_sentence(caller: Caller, images: np.ndarray) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.predict(images[:1, :63])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert 'input "image": expected float32' in refused.value.details()
    assert "got shape [1, 63]" in refused.value.details()


def test_a_deadline_that_is_over_is_deadline_exceeded(caller: Caller, images: np.ndarray) -> None:
    with pytest.raises(grpc.RpcError) as late:
        caller.predict(images[:1], [("x-teal-timeout-ms", "0")])
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "over when it arrived" in late.value.details()


def test_classify_regress_and_both(caller: Caller) -> None:
    given = [example(x=[1.0, 0.0]), example(x=[-1.0, 2.0], color=[b"blue"])]
    request = tfs("ClassificationRequest")()
    set_spec(request.model_spec, "examples")
    request.input.example_list.examples.extend(given)
    classified, _ = caller.ask(PREDICTION + "Classify", request, tfs("ClassificationResponse"))
    best = [max(row.classes, key=lambda c: c.score).label for row in classified.result.classifications]
    assert best == ["left", "both"]

    regress = tfs("RegressionRequest")()
    set_spec(regress.model_spec, "examples", signature="regress")
    regress.input.example_list.examples.extend(given)
    regressed, _ = caller.ask(PREDICTION + "Regress", regress, tfs("RegressionResponse"))
    assert [each.value for each in regressed.result.regressions] == [2.0, 1.0]

    both = tfs("MultiInferenceRequest")()
    both.input.example_list.examples.extend(given)
    for signature, method in (("serving_default", "classify"), ("regress", "regress")):
        task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
        set_spec(task.model_spec, "examples", signature=signature)
    answered, _ = caller.ask(PREDICTION + "MultiInference", both, tfs("MultiInferenceResponse"))
    assert answered.results[0].classification_result == classified.result
    assert answered.results[1].regression_result == regressed.result


def test_metadata_and_status(caller: Caller) -> None:
    asked = tfs("GetModelMetadataRequest")(metadata_field=["signature_def"])
    set_spec(asked.model_spec, "digits", 2)
    metadata, _ = caller.ask(PREDICTION + "GetModelMetadata", asked, tfs("GetModelMetadataResponse"))
    described = tfs("SignatureDefMap")()
    assert metadata.metadata["signature_def"].Unpack(described)
    assert "image" in described.signature_def["serving_default"].inputs
    assert metadata.model_spec.version.value == 2
    status = tfs("GetModelStatusRequest")()
    set_spec(status.model_spec, "digits")
    answer, _ = caller.ask(MODEL + "GetModelStatus", status, tfs("GetModelStatusResponse"))
    assert {each.version: each.state for each in answer.model_version_status} == {1: 30, 2: 30}


@pytest.mark.parametrize("raw", [True, False])
def test_an_infer_request_raw_or_typed(spoken_to: Gateway, caller: Caller, images: np.ndarray, raw: bool) -> None:
    request = oip("ModelInferRequest")(model_name="digits", model_version="1", id="q")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=[3, 64])
    if raw:
        request.raw_input_contents.append(images[:3].tobytes())
    else:
        tensor.contents.fp32_contents.extend(images[:3].reshape(-1).tolist())
    answer, _ = caller.ask(INFERENCE + "ModelInfer", request, oip("ModelInferResponse"))
    assert (answer.model_name, answer.model_version, answer.id) == ("digits", "1", "q")
    [output] = answer.outputs
    given = np.frombuffer(answer.raw_output_contents[0], np.float32) if raw else output.contents.fp32_contents
    assert np.allclose(np.reshape(given, output.shape), rest(spoken_to, images[:3], 1), atol=1e-6)
    ready, _ = caller.ask(INFERENCE + "ModelReady", oip("ModelReadyRequest")(name="digits"), oip("ModelReadyResponse"))
    assert ready.ready


def test_calls_that_are_cancelled_leave_nothing_behind(spoken_to: Gateway, caller: Caller, images: np.ndarray) -> None:
    request = tfs("PredictRequest")()
    set_spec(request.model_spec, "digits", 2)
    set_tensor(request.inputs["image"], np.tile(images, (40, 1)))
    with grpc.insecure_channel(f"127.0.0.1:{spoken_to.port}") as channel:
        ask = channel.unary_unary(PREDICTION + "Predict", lambda m: m.SerializeToString(), lambda raw: raw)
        for _ in range(5):
            calls = [ask.future(request) for _ in range(20)]
            for each in calls:
                each.cancel()
            assert all(each.cancelled() or each.done() for each in calls)

    def queued() -> float:
        lines = [line for w in spoken_to.workers() for line in spoken_to.worker_metrics(w["id"])]
        return sum(float(line.split()[-1]) for line in lines if line.startswith("teal_queue_rows{"))

    eventually("nothing waits any more", lambda: queued() == 0, 20)
    assert caller.predict(images[:1], version=2)[0].model_spec.version.value == 2
    assert json.loads(spoken_to.get("/v1/models/digits").body)["model_version_status"]
