"""Binary tensors of the Open Inference Protocol: bytes after the JSON, in both directions."""

import gzip
import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.limits import LIMITS
from contracts.signature import Signature, TensorSpec
from tests.serving.engines import FormulaEngine
from tests.serving.http.asgi import Answer, Client, run

INFER = "/v2/models/half_plus_two/infer"
HEADER = "inference-header-content-length"


def signature(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] | None = None, batched: bool = True) -> Signature:
    outputs = outputs or tuple([replace(spec, name=f"{spec.name}_out") for spec in inputs])
    return Signature("serving_default", inputs, outputs, batched)


def echo() -> FormulaEngine:
    return FormulaEngine(lambda inputs: {f"{name}_out": array for name, array in inputs.items()})


FOUR = signature(TensorSpec("x", "float32", (None,)))
PAIR = signature(TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int64", (None,)))
WORDS = signature(TensorSpec("w", "string", (None,)))


def send(
    body: bytes,
    served: Signature = FOUR,
    length: object = None,
    headers: dict[str, str] | None = None,
    **how: Any,
) -> Answer:
    async def story(client: Client) -> Answer:
        named = {} if length is None else {HEADER: str(length)}
        return await client.ask("POST", INFER, body, named | (headers or {}))

    return run(story, how.pop("engine", None) or echo(), (served,), **how)  # type: ignore[no-any-return]


def infer(value: Any, blob: bytes = b"", served: Signature = FOUR, **how: Any) -> Answer:
    text = json.dumps(value).encode()
    return send(text + blob, served, len(text), **how)


def tensor(name: str, datatype: str, shape: list[int], size: int | None = None, **more: Any) -> dict[str, Any]:
    entry = {"name": name, "datatype": datatype, "shape": shape} | more
    return entry if size is None else entry | {"parameters": {"binary_data_size": size}}


def parts(answer: Answer) -> tuple[Any, dict[str, bytes]]:
    """The JSON of a binary answer, and the bytes of each binary output."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER])
    value, rest, blobs = json.loads(answer.body[:length]), answer.body[length:], {}
    for output in value["outputs"]:
        if (size := output.get("parameters", {}).get("binary_data_size")) is not None:
            assert "data" not in output
            blobs[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return value, blobs


FLOATS = struct.pack("<4f", 1, 2, 3, 4)
X = {"inputs": [tensor("x", "FP32", [4], 16)]}


def test_a_tensor_after_the_json_is_read_and_answered_as_json_unless_asked_otherwise() -> None:
    answer = infer(X, FLOATS)
    assert answer.headers["content-type"] == "application/json"
    assert HEADER not in answer.headers
    assert answer.json["outputs"] == [{"name": "x_out", "datatype": "FP32", "shape": [4], "data": [1.0, 2.0, 3.0, 4.0]}]


@pytest.mark.parametrize(
    ("blob", "size", "length"),
    [
        (FLOATS[:12], 16, ...), (FLOATS + b"    ", 16, ...), (FLOATS[:12], 12, ...), (FLOATS + b"    ", 20, ...),
        (FLOATS, 0, ...), (b"", 16, ...), (FLOATS, -16, ...), (FLOATS, True, ...), (FLOATS, "16", ...),
        (FLOATS, 16.0, ...), (FLOATS, 2**62, ...), (FLOATS, None, ...),
        (FLOATS, 16, 10_000), (FLOATS, 16, -1), (FLOATS, 16, "x"), (FLOATS, 16, ""), (FLOATS, 16, "1" * 5000),
        (FLOATS, 16, 5), (FLOATS, 16, "+5"), (FLOATS, 16, "1_0"), (FLOATS, 16, "²"), (FLOATS, 16, None),
    ],
)  # fmt: skip
def test_sizes_that_do_not_add_up_are_400(blob: bytes, size: Any, length: Any) -> None:
    text = json.dumps({"inputs": [tensor("x", "FP32", [4]) | {"parameters": {"binary_data_size": size}}]}).encode()
    answer = send(text + blob, length=len(text) if length is ... else length)
    assert answer.status == 400, answer.body
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    "value",
    [
        {"inputs": [tensor("x", "FP32", [4], 16, data=[1, 2, 3, 4])]},
        {"inputs": [tensor("x", "FP64", [4], 16)]},
        {"inputs": [tensor("x", "FP32", [2, 2], 16)]},
        {"inputs": [tensor("x", "FP32", [0], 0)]},
        {"inputs": [tensor("x", "FP32", [2**31, 2**31], 16)]},
        {"inputs": [tensor("x", "FP32", [4]) | {"parameters": [16]}]},
        {"inputs": [tensor("x", "FP32", [4])]},
        {**X, "parameters": {"binary_data_output": 1}},
        {**X, "outputs": [{"name": "x_out", "parameters": {"binary_data": "yes"}}]},
        {**X, "outputs": [{"name": "x_out", "parameters": 7}]},
        {**X, "outputs": [{"name": "x_out"}, {"name": "x_out"}]},
    ],
)
def test_json_that_does_not_fit_its_bytes_is_400(value: Any) -> None:
    assert infer(value, FLOATS).status == 400


def test_an_error_says_which_input_needs_how_many_bytes() -> None:
    error = infer({"inputs": [tensor("x", "FP32", [4], 12)]}, FLOATS[:12]).json["error"]
    assert error == 'input "x": shape [4] of float32 needs 16 bytes, got 12'
    error = send(json.dumps(X).encode() + FLOATS).json["error"]
    assert "body is not JSON" in error
    error = send(json.dumps(X).encode()).json["error"]
    assert error == 'input "x" has a "binary_data_size", but there is no header Inference-Header-Content-Length'


def test_json_and_binary_inputs_and_outputs_mix() -> None:
    inputs = [tensor("a", "FP32", [2, 2], 16), tensor("b", "INT64", [2], data=[7, 8])]
    value, blobs = parts(infer({"id": "i", "inputs": inputs, "parameters": {"binary_data_output": True}}, FLOATS, PAIR))
    assert (value["id"], value["model_name"], value["model_version"]) == ("i", "half_plus_two", "123")
    assert [o["name"] for o in value["outputs"]] == ["a_out", "b_out"]
    assert blobs == {"a_out": FLOATS, "b_out": struct.pack("<2q", 7, 8)}


def test_what_an_output_says_wins_over_what_the_request_says() -> None:
    inputs = [tensor("b", "INT64", [2], 16), tensor("a", "FP32", [2, 2], 16)]
    blob = struct.pack("<2q", 7, 8) + FLOATS
    outputs: list[Any] = [{"name": "b_out", "parameters": {"binary_data": False}}, {"name": "a_out"}]
    request = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}
    value, blobs = parts(infer(request, blob, PAIR))
    assert value["outputs"][0] == {"name": "b_out", "datatype": "INT64", "shape": [2], "data": [7, 8]}
    assert value["outputs"][1] == {
        "name": "a_out", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16},
    }  # fmt: skip
    assert blobs == {"a_out": FLOATS}
    outputs = [{"name": "b_out", "parameters": {"binary_data": True}}, {"name": "a_out"}]
    value, blobs = parts(infer({"inputs": inputs, "outputs": outputs}, blob, PAIR))
    assert list(blobs) == ["b_out"]


def test_a_json_request_may_ask_for_binary_outputs() -> None:
    request = {"inputs": [tensor("x", "FP32", [2], data=[1, 2])], "parameters": {"binary_data_output": True}}
    assert parts(send(json.dumps(request).encode()))[1] == {"x_out": struct.pack("<2f", 1, 2)}


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("bool", "BOOL"), ("int8", "INT8"), ("int16", "INT16"), ("int32", "INT32"), ("int64", "INT64"),
        ("uint8", "UINT8"), ("uint16", "UINT16"), ("uint32", "UINT32"), ("uint64", "UINT64"),
        ("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spaces", range(4))
def test_every_dtype_comes_back_bit_by_bit_at_any_offset(dtype: str, datatype: str, spaces: int) -> None:
    rows = np.arange(6).reshape(3, 2).astype(dtype)
    request = {
        "inputs": [tensor("t", datatype, [3, 2], rows.nbytes)],
        "parameters": {"binary_data_output": True, "x": " " * spaces},
    }
    value, blobs = parts(infer(request, rows.tobytes(), signature(TensorSpec("t", dtype, (None, 2)))))
    assert blobs == {"t_out": rows.tobytes()}
    assert value["outputs"][0]["datatype"] == datatype


def test_a_bool_is_the_byte_0_or_1() -> None:
    answer = infer({"inputs": [tensor("t", "BOOL", [3], 3)]}, b"\0\1\2", signature(TensorSpec("t", "bool", (None,))))
    assert (answer.status, answer.json["error"]) == (
        400, 'input "t": byte 2 is neither 0 nor 1, the only bytes of a BOOL',
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "datatype"), [("bfloat16", "BF16"), ("complex64", None), ("complex64", "FP64")])
def test_dtypes_nobody_computes_with_are_refused(dtype: str, datatype: Any) -> None:
    served = signature(TensorSpec("t", dtype, (None,)))
    answer = infer({"inputs": [tensor("t", datatype, [1], 2)]}, b"\0\0", served)
    assert answer.status == 400
    assert dtype in answer.json["error"]
    assert send(b"\0\0", served, 0).status == 400


def test_half_floats_need_binary_and_json_is_told_so() -> None:
    half = signature(TensorSpec("t", "float16", (None,)))
    error = infer({"inputs": [tensor("t", "FP16", [1], data=[1.0])]}, b"", half).json["error"]
    assert "send it as binary data" in error
    answer = infer({"inputs": [tensor("t", "FP16", [1], 2)]}, b"\x00\x3c", half)
    assert answer.status == 400
    assert "ask for it as binary data" in answer.json["error"]


def test_numbers_that_are_not_finite_travel_as_binary_only() -> None:
    blob = np.array([np.nan, np.inf, -np.inf, 0], "<f4").tobytes()
    answer = infer(X, blob)
    assert answer.status == 400
    assert "holds 3 values that are not finite" in answer.json["error"]
    assert "ask for it as binary data" in answer.json["error"]
    assert parts(infer(X | {"parameters": {"binary_data_output": True}}, blob))[1] == {"x_out": blob}


def test_an_element_of_bytes_is_its_length_and_itself() -> None:
    blob = b"\2\0\0\0hi" + b"\0\0\0\0" + b"\3\0\0\0\xff\0a"
    request = {"inputs": [tensor("w", "BYTES", [3], len(blob))], "parameters": {"binary_data_output": True}}
    value, blobs = parts(infer(request, blob, WORDS))
    assert blobs == {"w_out": blob}
    assert value["outputs"][0]["datatype"] == "BYTES"
    answer = infer({"inputs": [tensor("w", "BYTES", [1], 6)]}, b"\2\0\0\0hi", WORDS)
    assert answer.json["outputs"][0]["data"] == ["hi"]


def test_bytes_that_are_no_text_are_refused_in_json_with_the_way_out() -> None:
    answer = infer({"inputs": [tensor("w", "BYTES", [1], 5)]}, b"\1\0\0\0\xff", WORDS)
    assert answer.status == 400
    assert "ask for it as binary data" in answer.json["error"]


@pytest.mark.parametrize(
    ("blob", "shape"),
    [
        (b"\2\0\0\0h", [1]), (b"\2\0\0", [1]), (b"\2\0\0\0hi!", [1]), (b"\2\0\0\0hi", [2]), (b"", [1]),
        (b"\xff\xff\xff\xffhi", [1]), (b"\1\0\0\0h\1\0", [2]), (b"\0\0\0\0", [50_000_000]),
    ],
)  # fmt: skip
def test_bytes_whose_lengths_do_not_add_up_are_400(blob: bytes, shape: list[int]) -> None:
    assert infer({"inputs": [tensor("w", "BYTES", shape, len(blob))]}, blob, WORDS).status == 400


def test_without_json_the_body_is_one_row_and_every_output_is_binary() -> None:
    table = signature(TensorSpec("t", "float32", (None, 4)))
    value, blobs = parts(send(FLOATS, table, 0))
    assert (blobs, value["outputs"][0]["shape"]) == ({"t_out": FLOATS}, [1, 4])
    open_ended = signature(TensorSpec("t", "float32", (None, None, 2)))
    assert parts(send(FLOATS, open_ended, 0))[0]["outputs"][0]["shape"] == [1, 2, 2]
    unbatched = signature(TensorSpec("t", "float32", (None, 2)), batched=False)
    assert parts(send(FLOATS, unbatched, 0))[0]["outputs"][0]["shape"] == [2, 2]
    assert parts(send(b"a\0\xff", WORDS, 0))[1] == {"w_out": b"\3\0\0\0a\0\xff"}


@pytest.mark.parametrize(
    ("served", "body"),
    [
        (PAIR, FLOATS), (signature(TensorSpec("t", "float32", (None, 4))), FLOATS + FLOATS),
        (signature(TensorSpec("t", "float32", (None, 4))), FLOATS[:-1]),
        (signature(TensorSpec("t", "float32", (None, 4))), b""),
        (signature(TensorSpec("t", "float32", (None, None, None))), FLOATS),
        (signature(TensorSpec("t", "float32", (None, None, 3))), FLOATS),
        (signature(TensorSpec("t", "float32", (None, None))), b""),
        (signature(TensorSpec("t", "float32", None), batched=False), FLOATS),
        (signature(TensorSpec("w", "string", (None, 2))), b"hi"),
    ],
)  # fmt: skip
def test_without_json_a_shape_that_does_not_follow_is_400(served: Signature, body: bytes) -> None:
    assert send(body, served, 0).status == 400


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_lengths_are_those_of_the_inflated_body(encoding: str, compress: Any) -> None:
    text = json.dumps(X).encode()
    answer = send(compress(text + FLOATS), length=len(text), headers={"content-encoding": encoding})
    assert answer.status == 200
    assert send(text + FLOATS, length=len(text), headers={"content-encoding": encoding}).status == 400


def test_binary_bodies_have_a_limit_of_their_own() -> None:
    small = replace(LIMITS, json_body=1000, binary_body=5000)
    blob = np.ones(1000, "<f4").tobytes()
    request = {"inputs": [tensor("x", "FP32", [1000], len(blob))]}
    assert infer(request, blob, limits=small).status == 200
    text = json.dumps(request).encode()
    assert send(text + blob, limits=small).status == 413
    assert infer(request | {"pad": "x" * 1000}, blob, limits=small).status == 413
    assert send(text, length=len(text), headers={"content-length": "5001"}, limits=small).status == 413


def test_only_infer_reads_the_header() -> None:
    async def story(client: Client) -> Answer:
        path = "/v1/models/half_plus_two:predict"
        return await client.ask("POST", path, b'{"instances":[1.0]}', {HEADER: "5"})

    assert run(story, echo(), (FOUR,)).status == 200


def test_big_json_beside_binary_tensors_is_read_like_small_json() -> None:
    rows = np.random.default_rng(1).random((4000, 2)).round(5)
    inputs = [
        tensor("a", "FP32", [4000, 2], data=rows.ravel().tolist()),
        tensor("b", "INT64", [4000], 32_000),
    ]
    blob = np.arange(4000).astype("<i8").tobytes()
    _, blobs = parts(infer({"inputs": inputs, "parameters": {"binary_data_output": True}}, blob, PAIR))
    assert blobs == {"a_out": rows.astype("<f4").tobytes(), "b_out": blob}
