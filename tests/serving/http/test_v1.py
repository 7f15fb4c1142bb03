"""TensorFlow Serving's REST contract, golden vector by golden vector (model half_plus_two)."""

import math
from typing import Any

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine
from tests.serving.http.asgi import Answer, Client, run

PREDICT = "/v1/models/half_plus_two:predict"


def predict(body: Any, *args: Any, **kwargs: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.predict(body)

    return run(story, *args, **kwargs)  # type: ignore[no-any-return]


def ask(method: str, path: str, body: Any = b"", **kwargs: Any) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.ask(method, path, body)

    return run(story, **kwargs)  # type: ignore[no-any-return]


def test_rows_give_predictions() -> None:
    answer = predict({"instances": [1.0, 2.0, 5.0]})
    assert (answer.status, answer.body) == (200, b'{"predictions":[2.5,3.0,4.5]}')


def test_columns_give_outputs_and_a_single_output_has_no_name() -> None:
    assert predict({"inputs": [1.0, 2.0]}).body == b'{"outputs":[2.5,3.0]}'


@pytest.mark.parametrize("path", ["/v1/models/nope:predict", "/v1/models/half_plus_two/versions/99:predict"])
def test_another_model_or_version_is_404(path: str) -> None:
    answer = ask("POST", path, {"instances": [1]})
    assert answer.status == 404
    assert list(answer.json) == ["error"]


def test_whole_numbers_are_floats_where_floats_are_wanted() -> None:
    assert predict({"instances": [{"x": 1}, {"x": 2}]}).body == b'{"predictions":[2.5,3.0]}'


def test_row_objects_need_exactly_the_inputs() -> None:
    answer = predict({"instances": [{"x": 1}, {"x": 2, "z": 3}]})
    assert answer.status == 400
    assert answer.json["error"] == 'row 1: expected an object with exactly input "x", got "x", "z"'


def test_extra_columns_are_ignored() -> None:
    assert predict({"inputs": {"x": [1, 2], "z": [3]}}).body == b'{"outputs":[2.5,3.0]}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[1],"inputs":[1]}', b"{}", b"[]", b"", b"  ", b"1", b"null", b'"x"', b"{", b'{"instances":[1]',
        b'{"instances":[]}', b'{"instances":1}', b'{"instances":[[1],[1,2]]}', b'{"instances":["a"]}',
        b'{"instances":[null]}', b'{"instances":[true]}', b'{"instances":[{"b64":"aGk="}]}',
        b'{"instances":[1,{"x":1}]}',
        b'{"instances":[{"x":1},1]}', b'{"instances":[1,[1]]}', b'{"instances":[[1]]}', b'{"instances":{"x":1}}',
        b'{"inputs":{}}', b'{"inputs":[]}', b'{"inputs":1}', b'{"inputs":{"z":[1]}}', b'{"inputs":null}',
        b'{"signature_name":7,"instances":[1]}', b'{"signature_name":"nope","instances":[1]}',
        b'{"instances":[1e39]}', b'{"instances":[1e999]}', b'{"instances":[NaN, 1e999]}',
        b'{"instances":[NaN,1' + b"0" * 400 + b"]}",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b'{"instances":[1],"instances":[2]}', b'{"instances":["\\ud800"]}', b'{"instances":[01]}',
        b'{"instances":[+1]}',
        b'{"instances":[1,]}', b"{'instances':[1]}", b'{"instances":[nan]}', b'{"instances":[Infinite]}',
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_400_with_one_sentence(body: bytes) -> None:
    answer = predict(body)
    assert answer.status == 400, answer.body
    assert list(answer.json) == ["error"]
    assert answer.headers["content-type"] == "application/json"


def test_non_finite_tokens_come_in_and_go_out_as_tensorflow_serving_writes_them() -> None:
    assert predict(b'{"instances":[NaN,-Infinity,Infinity,1]}').body == b'{"predictions":[NaN,-Infinity,Infinity,2.5]}'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PREDICT), ("POST", "/v1/models/half_plus_two/metadata"), ("POST", "/v1/models/half_plus_two"),
        ("POST", "/v1/models/half_plus_two/version/1:predict"),
        ("POST", "/v1/models/half_plus_two/versions/HELLO:predict"),
        ("POST", "/v1/models/half_plus_two/versions/1/labels/a:predict"), ("GET", "/v1/models"), ("GET", "/v1/models/"),
        ("GET", "/v1/"), ("DELETE", "/v1/models/half_plus_two"), ("POST", "/v1/models/half_plus_two:PREDICT"),
        ("POST", "/v1/models/half_plus_two:nope"), ("GET", "/v1/models/half_plus_two/versions/9223372036854775808"),
        ("GET", "/v1/models/half_plus_two/versions/" + "9" * 400), ("GET", "/v1/models/half_plus_two/versions/²"),
    ],
)  # fmt: skip
def test_wrong_paths_and_verbs_under_v1_are_400(method: str, path: str) -> None:
    assert ask(method, path, b'{"instances":[1]}').status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/V1/Models/half_plus_two:predict", "/v1/models/half_plus_two/versions/123:predict",
        "/v1/models/half_plus_two/versions/0123:predict", "/v1/models/half_plus_two/labels/live:predict",
        "/v1/models/half_plus_two/LABELS/blue:predict",
    ],
)  # fmt: skip
def test_every_spelling_of_the_path_predicts(path: str) -> None:
    assert ask("POST", path, {"instances": [1.0]}).body == b'{"predictions":[2.5]}'


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_a_model_made_for_predict_says_so(verb: str) -> None:
    answer = ask("POST", f"/v1/models/half_plus_two:{verb}", {"examples": [{}]})
    assert answer.status == 400
    assert verb in answer.json["error"]


def test_a_signature_may_be_named() -> None:
    assert predict({"signature_name": "serving_default", "instances": [1]}).status == 200


def test_bytes_after_the_first_value_are_ignored_as_tensorflow_serving_does() -> None:
    assert predict(b' {"instances":[1.0]} trailing').body == b'{"predictions":[2.5]}'


TEXT = Signature(
    "serving_default",
    (TensorSpec("words", "string", (None,)),),
    (TensorSpec("out", "string", (None,)), TensorSpec("out_bytes", "string", (None,))),
    batched=True,
)
ECHO = FormulaEngine(lambda inputs: {"out": inputs["words"], "out_bytes": inputs["words"]})


def test_strings_are_text_and_base64_only_where_the_alias_ends_in_bytes() -> None:
    answer = predict({"instances": [{"b64": "aGk="}, "hé"]}, ECHO, (TEXT,))
    assert answer.json == {
        "predictions": [{"out": "hi", "out_bytes": {"b64": "aGk="}}, {"out": "hé", "out_bytes": {"b64": "aMOp"}}]
    }


def test_bytes_that_are_not_text_are_refused_with_the_way_out() -> None:
    answer = predict({"instances": [{"b64": "/w=="}]}, ECHO, (TEXT,))
    assert answer.status == 400
    assert "_bytes" in answer.json["error"]


@pytest.mark.parametrize(
    "row", [{"b64": "not base64!"}, {"b64": 1}, {"x": "a"}, 1, None, True, ["a"], {"b64": "aGk=", "z": 1}]
)
def test_what_is_neither_text_nor_base64_is_400(row: Any) -> None:
    assert predict({"instances": [row]}, ECHO, (TEXT,)).status == 400


def test_a_scalar_base64_object_is_the_value_of_the_only_input() -> None:
    scalar = Signature("serving_default", (TensorSpec("w", "string", ()),), (TensorSpec("y", "string", ()),), False)
    answer = predict({"inputs": {"b64": "aGk="}}, FormulaEngine(lambda i: {"y": i["w"]}), (scalar,))
    assert answer.json == {"outputs": "hi"}


def typed(dtype: str) -> tuple[FormulaEngine, tuple[Signature, ...]]:
    spec = (TensorSpec("x", dtype, (None,)),)
    return FormulaEngine(lambda i: {"y": i["x"]}), (
        Signature("serving_default", spec, (TensorSpec("y", dtype, (None,)),), True),
    )


@pytest.mark.parametrize(
    ("dtype", "fits", "too_much"),
    [
        ("int8", [-128, 127], 128), ("uint8", [0, 255], 300), ("int16", [-32768], 32768), ("int32", [2**31 - 1], 2**31),
        ("int64", [2**63 - 1, -(2**63)], 2**63), ("uint32", [2**32 - 1], -1), ("uint64", [2**64 - 1], 2**64),
    ],
)  # fmt: skip
def test_whole_numbers_keep_to_their_range_and_have_no_fraction(dtype: str, fits: list[int], too_much: int) -> None:
    assert predict({"instances": fits}, *typed(dtype)).json == {"predictions": fits}
    for bad in (too_much, 1.0, 1.5, True, "1", None):
        answer = predict({"instances": [bad]}, *typed(dtype))
        assert answer.status == 400, bad
        assert answer.json["error"].startswith(f'input "x": expected {dtype} [rows], got ')


def test_booleans_are_only_true_and_false() -> None:
    assert predict({"instances": [True, False]}, *typed("bool")).json == {"predictions": [True, False]}
    assert predict({"instances": [1]}, *typed("bool")).status == 400


@pytest.mark.parametrize("dtype", ["float16", "uint16", "bfloat16", "complex64"])
def test_dtypes_without_a_json_form_are_400_in_rows_and_501_in_columns(dtype: str) -> None:
    assert predict({"instances": [1]}, *typed(dtype)).status == 400
    assert predict({"inputs": [1]}, *typed(dtype)).status == 501


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, b"0.1"), (6e-7, b"6e-7"), (1 / 3, b"0.33333334"), (16777216.0, b"16777216.0"), (-0.0, b"-0.0")],
)
def test_floats_are_the_shortest_text_of_their_own_precision(value: float, text: bytes) -> None:
    assert predict({"instances": [value]}, *typed("float32")).body == b'{"predictions":[' + text + b"]}"


def test_doubles_keep_their_digits() -> None:
    assert predict({"instances": [1 / 3]}, *typed("float64")).json == {"predictions": [1 / 3]}


IMAGE = Signature(
    "serving_default", (TensorSpec("image", "float32", (None, 64)),), (TensorSpec("y", "float32", (None,)),), True
)
SUM = FormulaEngine(lambda i: {"y": i["image"].reshape(len(i["image"]), -1).sum(axis=1)})


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([[0] * 64] * 3 + [[0] * 63], "got ragged rows: row 3 has 63 values"),
        ([[0] * 63], "got shape [1, 63]"),
        ([0] * 64, "got shape [64]"),
        ([[[0] * 64]], "got shape [1, 1, 64]"),
        ([["a"] * 64], "got text as value 0"),
        ([[0] * 63 + [None]], "got null as value 63"),
        ([[0] * 64, 5], "got ragged rows: row 1 holds a single value where a list belongs"),
        ([[0] * 63 + [[0]]], "got ragged rows: value 63 is a list beside single values"),
    ],
)
def test_a_mismatch_names_tensor_expected_and_received(instances: Any, message: str) -> None:
    answer = predict({"instances": instances}, SUM, (IMAGE,))
    assert answer.status == 400
    assert answer.json["error"] == f'input "image": expected float32 [rows, 64], {message}'


CUBE = Signature(
    "serving_default",
    (TensorSpec("image", "float32", (None, 40, 40, 3)),),
    (TensorSpec("y", "float32", (None,)),),
    True,
)


def test_big_bodies_are_read_like_small_ones() -> None:
    images = np.random.default_rng(0).random((3, 40, 40, 3)).round(6)
    wide = predict({"instances": images.tolist()}, SUM, (CUBE,)).json["predictions"]
    spaced = predict({"signature_name": "serving_default", "inputs": {"image": images.tolist()}}, SUM, (CUBE,)).json[
        "outputs"
    ]
    assert wide == spaced == pytest.approx(images.reshape(3, -1).sum(axis=1), rel=1e-5)


@pytest.mark.parametrize("spoil", ["ragged", "text", "null", "flat", "moved", "overflow"])
def test_big_bodies_hide_no_fault(spoil: str) -> None:
    images = np.zeros((3, 40, 40, 3)).tolist()
    match spoil:
        case "ragged":
            images[2][39][39].pop()
        case "text":
            images[2][39][39][2] = "0"
        case "null":
            images[0][0][0][0] = None
        case "flat":
            images = np.zeros(3 * 40 * 40 * 3).tolist()
        case "moved":  # as many values as there should be, one of them in the wrong row
            images[1][0][0].append(images[2][0][0].pop())
        case "overflow":
            images[1][1][1][1] = 1e39
    answer = predict({"instances": images}, SUM, (CUBE,))
    assert answer.status == 400
    assert answer.json["error"].startswith('input "image": expected float32 [rows, 40, 40, 3], got ')


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"instances":', b'{"inputs":[', b'{"instances":[1],"z":'])
def test_endless_nesting_is_400(opening: bytes) -> None:
    assert predict(opening + b"[" * 100_000).status == 400
    assert predict(opening + b"[" * 100_000 + b"]" * 100_000 + b"}").status == 400
    assert predict(b'{"instances":[NaN],"z":' + b"[" * 100_000).status == 400


def test_nesting_in_what_nobody_reads_is_limited() -> None:
    assert predict(b'{"instances":[1],"z":' + b"[" * 30 + b"]" * 30 + b"}").status == 200
    assert predict(b'{"instances":[1],"z":' + b"[" * 40 + b"]" * 40 + b"}").status == 400
    assert predict(b'{"inputs":{"x":[1],"z":' + b"[" * 40 + b"]" * 40 + b"}}").status == 400


def test_outputs_without_common_rows_are_refused_in_row_form() -> None:
    free = Signature(
        "serving_default",
        (TensorSpec("x", "float32", (None,)),),
        (TensorSpec("a", "float32", None), TensorSpec("b", "float32", None)),
        False,
    )
    engine = FormulaEngine(lambda i: {"a": i["x"][:1], "b": i["x"].sum()})
    assert predict({"instances": [1, 2]}, engine, (free,)).status == 400
    assert predict({"inputs": [1, 2]}, engine, (free,)).json == {"outputs": {"a": [1.0], "b": 3.0}}


def test_several_outputs_are_objects_by_row_with_tokens_in_their_place() -> None:
    two = Signature(
        "serving_default",
        HALF_PLUS_TWO.inputs,
        (TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None, 2))),
        True,
    )
    engine = FormulaEngine(lambda i: {"a": i["x"], "b": np.stack([i["x"], i["x"] * 2], axis=1)})
    answer = predict(b'{"instances":[1,NaN]}', engine, (two,))
    assert answer.body == b'{"predictions":[{"a":1.0,"b":[1.0,2.0]},{"a":NaN,"b":[NaN,NaN]}]}'


def test_columns_of_different_lengths_are_refused_before_any_compute() -> None:
    two = Signature(
        "serving_default",
        (TensorSpec("a", "float32", (None,)), TensorSpec("b", "float32", (None,))),
        HALF_PLUS_TWO.outputs,
        True,
    )
    engine = FormulaEngine(lambda i: {"y": i["a"]})
    answer = predict({"inputs": {"a": [1, 2], "b": [1]}}, engine, (two,))
    assert answer.status == 400
    assert engine.runs == []


def test_status_is_tensorflow_servings() -> None:
    expected = {
        "model_version_status": [
            {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for path in (
        "/v1/models/half_plus_two",
        "/v1/models/half_plus_two/versions/123",
        "/v1/models/half_plus_two/labels/x",
    ):
        assert ask("GET", path).json == expected


def test_metadata_is_tensorflow_servings() -> None:
    answer = ask("GET", "/v1/models/half_plus_two/metadata").json
    assert answer["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_infinite_answers_are_tokens_in_every_shape() -> None:
    engine = FormulaEngine(lambda i: {"y": np.full((len(i["x"]), 2), math.inf, np.float32)})
    assert predict({"instances": [1]}, engine).body == b'{"predictions":[[Infinity,Infinity]]}'
