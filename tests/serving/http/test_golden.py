"""The golden vectors of both REST protocols, by their numbers in the list we agreed on: request bytes → answer bytes.

Labels (13) are the router's, tests/router/test_routing.py, and 19 is gRPC's.
"""

import json
import struct
from typing import Any

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine, half_plus_two
from tests.serving.http.asgi import Answer, Client, run

MODEL = "/v1/models/half_plus_two"
PREDICT = f"{MODEL}:predict"
INFER = "/v2/models/half_plus_two/infer"

ECHO = Signature(
    "serving_default",
    (TensorSpec("w", "string", (None,)),),
    (TensorSpec("out", "string", (None,)), TensorSpec("out_bytes", "string", (None,))),
    batched=True,
)
SCALAR = Signature(
    "serving_default", (TensorSpec("w", "string", ()),), (TensorSpec("out", "string", ()),), batched=False
)
TWICE = Signature(
    "serving_default",
    (TensorSpec("x", "float32", (None,)),),
    (TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))),
    batched=True,
)


def ask(method: str, path: str, body: bytes = b"", signature: Signature = HALF_PLUS_TWO, **headers: str) -> Answer:
    names = [spec.name for spec in signature.outputs]
    engine = FormulaEngine(lambda inputs: dict.fromkeys(names, next(iter(inputs.values()))))

    async def story(client: Client) -> Answer:
        return await client.ask(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    answer: Answer = run(story, half_plus_two() if signature is HALF_PLUS_TWO else engine, (signature,))
    return answer


@pytest.mark.parametrize(
    ("number", "body", "answer"),
    [
        (1, b'{"instances":[1.0,2.0,5.0]}', b'{"predictions":[2.5,3.0,4.5]}'),
        (2, b'{"inputs":[1.0,2.0]}', b'{"outputs":[2.5,3.0]}'),
        (4, b'{"instances":[{"x":1},{"x":2}]}', b'{"predictions":[2.5,3.0]}'),
        (6, b'{"inputs":{"x":[1,2],"z":[3]}}', b'{"outputs":[2.5,3.0]}'),
        (9, b'{"instances":[NaN,-Infinity]}', b'{"predictions":[NaN,-Infinity]}'),
        (9, b'{"instances":[Infinity]}', b'{"predictions":[Infinity]}'),
    ],
)
def test_what_tensorflow_serving_answers_is_answered(number: int, body: bytes, answer: bytes) -> None:
    got = ask("POST", PREDICT, body)
    assert (got.status, got.body, got.headers["content-type"]) == (200, answer, "application/json"), number


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (5, b'{"instances":[{"x":1},{"x":2,"z":3}]}'), (7, b'{"instances":[1],"inputs":[1]}'), (7, b"{}"), (7, b"[]"),
        (7, b""), (8, b'{"instances":[]}'), (8, b'{"instances":1}'), (8, b'{"instances":[[1],[1,2]]}'),
        (8, b'{"instances":["a"]}'), (8, b'{"instances":[null]}'), (10, b'{"signature_name":7,"instances":[1]}'),
        (10, b'{"signature_name":"nope","instances":[1]}'),
        # Beyond the vectors: what readers of JSON disagree about is refused, and always in the same way.
        (0, b'{"instances":[1],"instances":[2]}'), (0, b'\xef\xbb\xbf{"instances":[1]}'), (0, b'{"instances":[1e999]}'),
        (0, b'{"instances":[1],"signature_name":"\\ud800"}'), (0, b'{"instances":[1]'), (0, b'{"instances":[01]}'),
        (0, b'{"instances":[1],}'), (0, b"{'instances':[1]}"), (0, b'{"instances":[true]}'), (0, b"\xff\xfe{}"),
    ],
)  # fmt: skip
def test_what_tensorflow_serving_refuses_is_refused(number: int, body: bytes) -> None:
    got = ask("POST", PREDICT, body)
    assert got.status == 400, (number, got.body)
    assert list(got.json) == ["error"]


@pytest.mark.parametrize(
    ("number", "method", "path", "status"),
    [
        (3, "POST", "/v1/models/nope:predict", 404), (3, "GET", "/v1/models/nope", 404),
        (11, "GET", PREDICT, 400), (11, "POST", f"{MODEL}/metadata", 400),
        (11, "POST", f"{MODEL}/version/1:predict", 400), (11, "POST", f"{MODEL}/versions/HELLO:predict", 400),
        (11, "POST", f"{MODEL}/versions/1/labels/a:predict", 400), (11, "GET", "/v1/models", 400),
        (11, "OPTIONS", PREDICT, 400), (11, "PUT", MODEL, 400), (11, "HEAD", MODEL, 400),
        (12, "POST", "/V1/Models/half_plus_two:predict", 200), (12, "POST", f"{MODEL}/VERSIONS/123:predict", 200),
        (12, "POST", "/v1/models/half_plus_two:PREDICT", 400), (12, "POST", "/v1/models/Half_plus_two:predict", 404),
        (12, "GET", "/v1/MODELS/half_plus_two/Metadata", 200), (13, "POST", f"{MODEL}/versions/99:predict", 404),
        (0, "GET", "/v3/models/half_plus_two", 404), (0, "GET", "/v1", 404),
    ],
)  # fmt: skip
def test_paths_and_verbs_are_those_of_tensorflow_serving(number: int, method: str, path: str, status: int) -> None:
    got = ask(method, path, b'{"instances":[1]}')
    assert got.status == status, (number, got.body)


def test_an_unknown_model_is_named_in_its_404() -> None:
    for path in ("/v1/models/nope:predict", "/v2/models/nope/infer"):
        assert '"nope"' in ask("POST", path, b"{}").json["error"]


def test_14_strings_are_base64_only_where_the_alias_says_bytes() -> None:
    got = ask("POST", PREDICT, b'{"instances":[{"b64":"aGk="}]}', ECHO)
    assert got.body == b'{"predictions":[{"out":"hi","out_bytes":{"b64":"aGk="}}]}'


def test_15_a_base64_object_is_the_value_of_the_only_input() -> None:
    assert ask("POST", PREDICT, b'{"inputs":{"b64":"aGk="}}', SCALAR).body == b'{"outputs":"hi"}'


def infer(blob: bytes, header: Any = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "shape": [4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [tensor], **more}).encode()
    length = str(len(text)) if header is None else header
    return text + blob, {"inference_header_content_length": length} if length else {}


FOUR = struct.pack("<4f", 1, 2, 5, -4)


def test_16_binary_tensors_have_exactly_the_bytes_they_say() -> None:
    body, head = infer(FOUR)
    assert ask("POST", INFER, body, **head).json["outputs"][0]["data"] == [2.5, 3.0, 4.5, 0.0]
    wrong = ((FOUR[:12], None), (FOUR + b"0000", None), (FOUR, "9999"), (FOUR, ""), (FOUR, "-1"), (FOUR, "1e2"))
    for blob, header in wrong:
        body, head = infer(blob, header)
        assert ask("POST", INFER, body, **head).status == 400, (len(blob), header)


def test_17_what_an_output_says_wins_over_what_the_request_says() -> None:
    wanted = [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}]
    body, head = infer(FOUR, parameters={"binary_data_output": True}, outputs=wanted)
    got = ask("POST", INFER, body, TWICE, **head)
    assert got.headers["content-type"] == "application/octet-stream"
    length = int(got.headers["inference-header-content-length"])
    a, b = json.loads(got.body[:length])["outputs"]
    assert (a["data"], b["parameters"], got.body[length:]) == ([1.0, 2.0, 5.0, -4.0], {"binary_data_size": 16}, FOUR)


def test_18_an_element_of_bytes_has_its_length_before_it() -> None:
    tensor = {"name": "w", "shape": [1], "datatype": "BYTES"}
    for blob, status in ((b"\2\0\0\0hi", 200), (b"\2\0\0\0h", 400), (b"\2\0\0", 400), (b"\3\0\0\0hi", 400)):
        text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(blob)}}]}).encode()
        got = ask("POST", INFER, text + blob, ECHO, inference_header_content_length=str(len(text)))
        assert got.status == status, blob
        if status == 200:
            assert np.array_equal(got.json["outputs"][0]["data"], ["hi"])
