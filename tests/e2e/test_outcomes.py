"""Who answered, and was it right: through the real gateway, over REST and gRPC, by the id that every answer carries."""

import json
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.gateway import Gateway, call
from tests.serving.codec.calls import predict

pytestmark = pytest.mark.e2e


def feedback(gateway: Gateway, report: Any) -> Any:
    body = json.dumps(report).encode()
    return call(f"{gateway.admin}/api/v1/feedback", body, {"content-type": "application/json"})


def over_grpc(gateway: Gateway, image: np.ndarray, request_id: str) -> None:
    message = predict({gateway.predict_metadata()["inputs"][0]["name"]: image[np.newaxis]}, model="digits")
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        ask = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        ask(message, metadata=[("x-request-id", request_id)], timeout=20)


def test_an_answer_can_be_explained_and_labelled_by_its_request_id(serving: Gateway, images: np.ndarray) -> None:
    rows = images[:2].tolist()
    answer = serving.predict({"instances": rows})
    request_id = answer.headers["x-request-id"]
    said = [int(np.argmax(row)) for row in answer.json["predictions"]]

    explained = serving.must("explain", request_id)
    (told,) = explained["answers"]
    assert (told["model"], told["version"], told["role"], told["mirrored"]) == ("digits", 1, "live", False)
    assert (told["kind"], told["predicted"], told["rows"]) == ("class", said, 2)
    assert told["digest"] == serving.must("models", "digits")["versions"][0]["digest"]
    assert told["lineage"]["dataset_digest"]
    words = serving.teal("explain", request_id).out
    assert "digits version 1, blue, live" in words
    assert "git commit:" in words

    judged = feedback(serving, {"request_id": request_id, "label": [said[0], said[1] + 1]})
    assert judged.json["outcomes"] == [{"version": 1, "outcome": 0.5}]
    assert feedback(serving, {"request_id": request_id, "label": said}).json["result"] == "repeated"
    assert feedback(serving, {"request_id": "nobody", "label": 1}).status == 404
    assert serving.teal("explain", "nobody").code == 1


def test_ids_of_the_caller_are_kept_over_rest_and_grpc(serving: Gateway, images: np.ndarray) -> None:
    serving.predict({"instances": images[:1].tolist()}, x_request_id="mine/1")
    over_grpc(serving, images[0], "mine/2")
    rest, rpc = (serving.must("explain", name)["answers"][0] for name in ("mine/1", "mine/2"))
    assert rest["predicted"] == rpc["predicted"]
