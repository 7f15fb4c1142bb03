"""The Open Inference Protocol in JSON."""

import json
from typing import Any

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from tests.serving.engines import FormulaEngine
from tests.serving.http.asgi import Answer, Client, run

INFER = "/v2/models/half_plus_two/infer"
TABLE = Signature(
    "serving_default",
    (TensorSpec("x", "float32", (None, 2)),),
    (TensorSpec("double", "float32", (None, 2)), TensorSpec("total", "float32", (None,))),
    batched=True,
)


def table_engine() -> FormulaEngine:
    return FormulaEngine(lambda i: {"double": i["x"] * 2, "total": i["x"].sum(axis=1)})


def ask(method: str, path: str, body: Any = b"", *args: Any, **kwargs: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.ask(method, path, body)

    return run(story, *args, **kwargs)  # type: ignore[no-any-return]


def infer(body: Any) -> Answer:
    return ask("POST", INFER, body, table_engine(), (TABLE,))


def tensor(**changes: Any) -> dict[str, Any]:
    base = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]} | changes
    return {key: value for key, value in base.items() if value is not ...}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_data_may_be_flat_or_nested_and_is_row_major(data: Any) -> None:
    answer = infer({"id": "7", "inputs": [tensor(data=data)]})
    assert answer.status == 200
    assert answer.json == {
        "model_name": "half_plus_two",
        "model_version": "123",
        "id": "7",
        "outputs": [
            {"name": "double", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]},
            {"name": "total", "datatype": "FP32", "shape": [2], "data": [3.0, 7.0]},
        ],
    }


def test_without_an_id_there_is_none_in_the_answer() -> None:
    assert "id" not in infer({"inputs": [tensor()]}).json


def test_outputs_come_in_the_order_they_were_asked_for() -> None:
    answer = infer({"inputs": [tensor()], "outputs": [{"name": "total"}, {"name": "double", "parameters": {}}]})
    assert [o["name"] for o in answer.json["outputs"]] == ["total", "double"]
    answer = infer({"inputs": [tensor()], "outputs": [{"name": "total"}]})
    assert [o["name"] for o in answer.json["outputs"]] == ["total"]


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2147483647, 2147483647], "data": []}, {"shape": [2**31, 2**31, 2**31]}, {"shape": [-1, 2]},
        {"shape": [0, 2]}, {"shape": [True, 2]}, {"shape": [2.0, 2]}, {"shape": ["2", 2]}, {"shape": "x"},
        {"shape": ...},
        {"shape": [1] * 65}, {"shape": [4]}, {"shape": [2, 2, 1]}, {"shape": [3, 2]}, {"shape": [1, 2]}, {"shape": []},
        {"datatype": "FP64"}, {"datatype": "float32"}, {"datatype": 7}, {"datatype": ...},
        {"data": [1, 2, 3]}, {"data": [1, 2, 3, 4, 5]}, {"data": [1, 2, 3, "4"]}, {"data": [1, 2, 3, None]},
        {"data": [1, 2, 3, True]}, {"data": [[1, 2], [3]]}, {"data": [[1, 2, 3, 4]]}, {"data": [[1], [2], [3], [4]]},
        {"data": "AAAA"}, {"data": ...}, {"data": {"a": 1}}, {"data": 1}, {"data": [1, 2, 3, 1e39]},
        {"data": [1, 2, [3, 4]]},
        {"data": ..., "parameters": {"binary_data_size": 16}}, {"name": "z"}, {"name": 1}, {"name": ...},
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_400(changes: dict[str, Any]) -> None:
    answer = infer({"inputs": [tensor(**changes)]})
    assert answer.status == 400, answer.body
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"inputs":[]}', b'{"inputs":{}}', b'{"inputs":[1]}', b'{"inputs":[{}]}', b"{} x", b"NaN",
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}',
        b'{"inputs":[{"name":"x","shape":[1' + b"0" * 400 + b',2],"datatype":"FP32","data":[1,1]}]}',
        b'{"inputs":[{"name":"x","shape":[1e400,2],"datatype":"FP32","data":[1,1]}]}',
        b'{"inputs":' + b"[" * 100_000, b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":' + b"[" * 500 + b"]" * 500 + b"}]}",
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_400(body: bytes) -> None:
    assert infer(body).status == 400


@pytest.mark.parametrize(
    "more",
    [
        {"id": 7}, {"parameters": []}, {"outputs": {}}, {"outputs": [{"name": "nope"}]}, {"outputs": [1]},
        {"inputs": [tensor(), tensor()]},
    ],
)  # fmt: skip
def test_what_stands_around_the_tensors_is_checked_too(more: dict[str, Any]) -> None:
    assert infer({"inputs": [tensor()]} | more).status == 400


def test_an_error_names_tensor_expected_and_received() -> None:
    error = infer({"inputs": [tensor(datatype="INT64")]}).json["error"]
    assert error == 'input "x": expected float32 [rows, 2], that is datatype FP32, got datatype "INT64"'
    error = infer({"inputs": [tensor(data=[1, 2, 3])]}).json["error"]
    assert error == 'input "x": "shape" [2, 2] needs 4 values, "data" has 3'


def test_an_output_that_is_not_finite_is_refused_and_never_null() -> None:
    engine = FormulaEngine(lambda i: {"double": i["x"], "total": np.full(len(i["x"]), np.nan, np.float32)})
    answer = ask("POST", INFER, {"inputs": [tensor()]}, engine, (TABLE,))
    assert answer.status == 400
    assert answer.json["error"].startswith('output "total" holds 2 values that are not finite')


def test_bytes_are_text() -> None:
    words = Signature(
        "serving_default", (TensorSpec("w", "string", (None,)),), (TensorSpec("y", "string", (None,)),), True
    )
    body = {"inputs": [{"name": "w", "shape": [2], "datatype": "BYTES", "data": ["hi", "é"]}]}
    answer = ask("POST", INFER, body, FormulaEngine(lambda i: {"y": i["w"]}), (words,))
    assert answer.json["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [2], "data": ["hi", "é"]}]
    answer = ask("POST", INFER, body, FormulaEngine(lambda i: {"y": np.array([b"\xff"] * 2, object)}), (words,))
    assert answer.status == 400


@pytest.mark.parametrize("nested", [False, True])
def test_big_bodies_are_read_like_small_ones(nested: bool) -> None:
    rows = np.random.default_rng(0).random((4000, 2)).round(6)
    data = rows.tolist() if nested else rows.ravel().tolist()
    answer = infer({"id": "big", "inputs": [tensor(shape=[4000, 2], data=data)], "outputs": [{"name": "total"}]})
    assert answer.json["outputs"][0]["data"] == pytest.approx(rows.sum(axis=1), rel=1e-5)


@pytest.mark.parametrize("spoil", [7999, "text", "null", "bool"])
def test_big_bodies_hide_no_fault(spoil: Any) -> None:
    data: list[Any] = [0.5] * 8000
    if spoil == 7999:
        data.pop()
    else:
        data[4321] = {"text": "1", "null": None, "bool": True}[spoil]
    assert infer({"inputs": [tensor(shape=[4000, 2], data=data)]}).status == 400


@pytest.mark.parametrize("count", [2, 4000], ids=["small", "big"])
@pytest.mark.parametrize("key", ["inputs", "shape", "data", "name", "datatype"])
def test_a_key_that_stands_twice_is_refused_whichever_of_them_fits(count: int, key: str) -> None:
    text = json.dumps({"inputs": [tensor(shape=[count, 2], data=[0.5] * count * 2)]})
    answer = infer(text.replace(f'"{key}":', f'"{key}": [], "{key}":').encode())
    assert answer.status == 400
    assert f"key '{key}' stands twice" in answer.json["error"]


def test_colons_in_texts_are_no_keys() -> None:
    more = {"id": "a:b:c", "parameters": {"note": "x:y"}, "z": [{"a": 1}]}
    assert infer({"inputs": [tensor()], **more}).status == 200


def test_metadata_and_health() -> None:
    model = ask("GET", "/v2/models/half_plus_two", b"", table_engine(), (TABLE,)).json
    assert model["platform"] == "tensorflow_savedmodel"
    assert model["versions"] == ["123"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert ask("GET", "/v2").json == {"name": "teal", "version": "1", "extensions": ["binary_tensor_data"]}
    assert ask("GET", "/v2/health/live").json == {"live": True}
    assert ask("GET", "/v2/health/ready").json == {"ready": True}
    assert ask("GET", "/v2/models/half_plus_two/versions/123/ready").json == {"name": "half_plus_two", "ready": True}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nope/infer", 404), ("POST", "/v2/models/half_plus_two/versions/9/infer", 404),
        ("GET", "/v2/models/nope", 404), ("GET", "/v2/models/nope/ready", 404), ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405), ("POST", "/v2/health/ready", 405), ("GET", "/", 404), ("GET", "/metrics/x", 404),
    ],
)  # fmt: skip
def test_unknown_things_are_404_and_wrong_verbs_405(method: str, path: str, status: int) -> None:
    assert ask(method, path, {}).status == status
