"""What a person does by hand, in the order of the README, through the real command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.gateway import Gateway, running

pytestmark = pytest.mark.e2e


def test_the_whole_story_by_hand(gateway: Gateway, images: np.ndarray) -> None:
    rows = images[:3].tolist()

    first = gateway.must("deploy", "digits", "1")
    assert first["live"]["version"] == 1
    assert first["live"]["weight"] == 100
    assert first["candidate"] is None

    answer = gateway.predict({"instances": rows})
    assert answer.status == 200
    assert len(answer.json["predictions"]) == 3
    assert answer.headers["x-teal-model"] == "digits"
    assert answer.headers["x-teal-version"] == "1"
    assert answer.headers["x-teal-color"] == first["live"]["color"]
    assert answer.headers["x-request-id"]

    second = gateway.must("deploy", "digits", "2", "--strategy", "manual")
    assert (second["live"]["version"], second["candidate"]["version"]) == (1, 2)
    assert second["candidate"]["weight"] == 0
    assert second["candidate"]["color"] != second["live"]["color"]
    assert gateway.predict({"instances": rows}, "/v1/models/digits/versions/2:predict").headers["x-teal-version"] == "2"
    assert gateway.predict({"instances": rows}, "/v1/models/digits/labels/candidate:predict").status == 200

    assert gateway.must("weight", "digits", "25")["candidate"]["weight"] == 25
    served = {gateway.predict({"instances": rows}).headers["x-teal-version"] for _ in range(80)}
    assert served == {"1", "2"}
    assert gateway.must("weight", "digits", "0.01")["candidate"]["weight"] == 0.01

    promoted = gateway.must("promote", "digits", "--reason", "looks good")
    assert (promoted["live"]["version"], promoted["live"]["weight"]) == (2, 100)
    assert {gateway.predict({"instances": rows}).headers["x-teal-version"] for _ in range(40)} == {"2"}

    back = gateway.must("rollback", "digits")
    assert back["live"]["version"] == 1
    assert {gateway.predict({"instances": rows}).headers["x-teal-version"] for _ in range(40)} == {"1"}

    history = gateway.must("history", "digits")
    actions = [event["action"] for event in history["events"]]
    assert {"register", "deploy", "weight", "promote", "rollback"} <= set(actions)
    assert any("looks good" in event["reason"] for event in history["events"])

    predicted = gateway.teal("predict", "digits", "--data", json.dumps(rows))
    assert predicted.code == 0, predicted.err
    models = gateway.must("models", "digits")
    assert [v["version"] for v in models["versions"]] in ([1, 2], [2, 1])


def test_both_protocols_give_the_same_answer(serving: Gateway, images: np.ndarray) -> None:
    rows = images[:5]
    v1 = serving.predict({"instances": rows.tolist()}).json["predictions"]
    columns = serving.predict({"inputs": rows.tolist()}).json["outputs"]
    name = serving.predict_metadata()["inputs"][0]["name"]
    tensor = {"name": name, "shape": [5, 64], "datatype": "FP32", "data": rows.ravel().tolist()}
    v2 = serving.predict({"id": "abc", "inputs": [tensor]}, "/v2/models/digits/infer").json
    assert v2["id"] == "abc"
    assert v2["model_version"] == "1"
    assert v2["outputs"][0]["shape"] == [5, 10]
    np.testing.assert_allclose(np.array(v1), np.array(columns), rtol=0, atol=0)
    np.testing.assert_allclose(np.array(v1).ravel(), np.array(v2["outputs"][0]["data"]).ravel(), rtol=1e-6)


def test_status_of_models_speaks_both_protocols(serving: Gateway) -> None:
    status = serving.get("/v1/models/digits").json
    assert status["model_version_status"][0]["version"] == "1"
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    assert "signature_def" in serving.get("/v1/models/digits/metadata").json["metadata"]
    assert serving.get("/v2/models/digits").json["name"] == "digits"
    assert serving.get("/v2/models/digits/ready").status == 200
    assert serving.get("/v2/health/ready").status == 200


def test_a_stopped_gateway_comes_back_with_what_was_live(home: Path, images: np.ndarray) -> None:
    with running(home) as first:
        first.must("deploy", "digits", "1")
        first.must("deploy", "digits", "2", "--strategy", "manual")
        first.must("weight", "digits", "30")
    with running(home) as second:
        status = second.status()
        assert status["live"]["version"] == 1
        assert status["candidate"]["weight"] == 30
        body = {"instances": images[:1].tolist()}
        served = [second.predict(body).headers["x-teal-version"] for _ in range(100)]
        assert set(served) == {"1", "2"}


def test_two_replicas_share_the_load(gateway: Gateway, images: np.ndarray) -> None:
    gateway.must("deploy", "digits", "1", "--replicas", "2")
    assert len(gateway.worker_pids()) == 2
    assert gateway.predict({"instances": images[:1].tolist()}).status == 200
