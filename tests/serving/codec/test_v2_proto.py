"""The Open Inference Protocol's messages: raw and typed tensors, all or nothing, and each fault by its name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidInput, TealError, Unsupported
from contracts.signature import Signature, TensorSpec
from serving.codec import v2_proto
from serving.codec.v2_words import DATATYPES
from serving.engine.base import NUMPY_DTYPES
from tests.serving.codec.calls import floats, infer, oip

TWO = Signature(
    "serving_default",
    (TensorSpec("a", "float32", (None, 2)), TensorSpec("n", "int64", (None,))),
    (TensorSpec("y", "float32", (None,)), TensorSpec("n2", "int64", (None,))),
    batched=True,
)
CODEC = v2_proto.V2ProtoCodec((TWO,))
A, N = np.array([[1, np.nan], [3, 4]], np.float32), np.array([1, 2])
OUT = {"y": floats(0.5, np.inf), "n2": N}
ALL = sorted(name for name in NUMPY_DTYPES if name in DATATYPES)


def single(dtype: str) -> v2_proto.V2ProtoCodec:
    spec = TensorSpec("x", dtype, (None,))
    return v2_proto.V2ProtoCodec((Signature("serving_default", (spec,), (spec,), batched=True),))


def answered(request: v2_proto.Infer, outputs: Any) -> Any:
    return oip("ModelInferResponse").FromString(v2_proto.write("m", "7", request, outputs))


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_come_and_go_the_same_way(raw: bool) -> None:
    request = CODEC.read(infer({"a": A, "n": N}, raw=raw, id="q").SerializeToString())
    assert (request.rows, request.raw, request.wanted) == (2, raw, ("y", "n2"))
    assert np.array_equal(request.inputs["a"], A, equal_nan=True)
    assert request.inputs["n"].tolist() == [1, 2]
    response = answered(request, OUT)
    assert (response.model_name, response.model_version, response.id) == ("m", "7", "q")
    assert [(t.name, t.datatype, list(t.shape)) for t in response.outputs] == [("y", "FP32", [2]), ("n2", "INT64", [2])]
    if raw:
        assert list(response.raw_output_contents) == [OUT["y"].tobytes(), N.tobytes()]
    else:
        assert list(response.outputs[0].contents.fp32_contents) == [0.5, np.inf]
        assert list(response.outputs[1].contents.int64_contents) == [1, 2]
        assert not response.raw_output_contents


@pytest.mark.parametrize("dtype", ALL)
def test_every_datatype_travels_raw(dtype: str) -> None:
    codec, request = single(dtype), oip("ModelInferRequest")()
    request.inputs.add(name="x", datatype=DATATYPES[dtype], shape=[2])
    if dtype == "string":
        request.raw_input_contents.append(b"\2\0\0\0hi\0\0\0\0")
    else:
        request.raw_input_contents.append(np.array([1, 0]).astype(dtype).tobytes())
    read = codec.read(request.SerializeToString())
    assert read.inputs["x"].tolist() == ([b"hi", b""] if dtype == "string" else [1, 0])
    assert list(answered(read, read.inputs).raw_output_contents) == list(request.raw_input_contents)


@pytest.mark.parametrize("dtype", [name for name in ALL if name != "float16"])
def test_every_datatype_but_half_floats_travels_typed(dtype: str) -> None:
    slot = v2_proto.CONTENTS[DATATYPES[dtype]]
    values = [b"hi", b""] if dtype == "string" else [True, False] if dtype == "bool" else [1, 0]
    request = oip("ModelInferRequest")()
    getattr(request.inputs.add(name="x", datatype=DATATYPES[dtype], shape=[2]).contents, slot).extend(values)
    read = single(dtype).read(request.SerializeToString())
    assert read.inputs["x"].dtype == NUMPY_DTYPES[dtype]
    assert read.inputs["x"].tolist() == values
    assert list(getattr(answered(read, read.inputs).outputs[0].contents, slot)) == values


def test_a_half_float_output_makes_the_whole_answer_raw() -> None:
    request = CODEC.read(infer({"a": A, "n": N}, raw=False).SerializeToString())
    half = np.array([1, 2], np.float16)
    assert list(answered(request, {"y": half, "n2": N}).raw_output_contents) == [half.tobytes(), N.tobytes()]


def test_outputs_come_as_wanted_and_the_schedule_is_read() -> None:
    message = infer({"a": A, "n": N}, raw=True)
    message.outputs.add(name="n2")
    message.parameters["timeout"].int64_param = 1500
    message.parameters["priority"].uint64_param = 2
    request = CODEC.read(message.SerializeToString())
    assert (request.timeout, request.priority) == (0.0015, 2)
    assert [t.name for t in answered(request, OUT).outputs] == ["n2"]


def changed(raw: bool, change: Any) -> bytes:
    message = infer({"a": A, "n": N}, raw=raw)
    change(message)
    return bytes(message.SerializeToString())


def _set(message: Any, path: str, value: Any) -> None:
    setattr(message, path, value)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (changed(True, lambda m: m.raw_input_contents.pop()), "has 1 entries for 2 inputs"),
        (changed(True, lambda m: m.inputs[1].contents.int64_contents.append(1)), '"n" has contents beside raw_input'),
        (
            changed(True, lambda m: m.raw_input_contents.__setitem__(0, b"1234")),
            '"a": shape [2, 2] of float32 needs',
        ),
        (changed(True, lambda m: _set(m.inputs[0], "datatype", "FP64")), "that is datatype FP32, got datatype"),
        (changed(True, lambda m: _set(m.inputs[0], "name", "b")), 'unknown input "b": expected "a", "n"'),
        (changed(True, lambda m: _set(m.inputs[1], "name", "a")), 'input "a" stands twice'),
        (changed(True, lambda m: m.inputs[0].shape.__setitem__(0, 0)), "every dimension"),
        (changed(True, lambda m: m.inputs[0].shape.__setitem__(0, 2**62)), "more values than any body"),
        (changed(True, lambda m: m.inputs[0].shape.extend([1] * 64)), "66 dimensions"),
        (changed(True, lambda m: m.outputs.add(name="q")), 'unknown output "q": this model has "y", "n2"'),
        (changed(True, lambda m: [m.outputs.add(name="y") for _ in "12"]), 'output "y" stands twice'),
        (
            changed(True, lambda m: _set(m.parameters["timeout"], "string_param", "1")),
            '"timeout" must be a whole',
        ),
        (changed(True, lambda m: _set(m.parameters["triton_x"], "bool_param", True)), 'begins with "triton_"'),
        (changed(False, lambda m: m.inputs[0].contents.fp32_contents.pop()), "needs 4 values in fp32_contents, got 3"),
        (
            changed(False, lambda m: m.inputs[0].contents.fp64_contents.append(1)),
            "belongs into fp32_contents, got",
        ),
        (changed(False, lambda m: m.inputs.pop()), 'input "n" is missing'),
        (b"", 'input "a" is missing'),
        (b"\xff", "is no inference.ModelInferRequest"),
    ],
)
def test_what_does_not_fit_is_named(message: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CODEC.read(message)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("dtype", "blob", "words"),
    [
        ("string", b"\5\0\0\0hi", "ends inside of element 0"),
        ("string", b"\2\0\0\0hi\0", "bytes follow the last of 1 elements"),
        ("string", b"", "need at least 4 bytes"),
        ("bool", b"\2", "neither 0 nor 1"),
    ],
)
def test_raw_bytes_that_lie_are_refused(dtype: str, blob: bytes, words: str) -> None:
    request = oip("ModelInferRequest")(raw_input_contents=[blob])
    request.inputs.add(name="x", datatype=DATATYPES[dtype], shape=[1])
    with pytest.raises(InvalidInput, match=words):
        single(dtype).read(request.SerializeToString())


def test_numbers_beyond_their_datatype_and_half_floats_without_bytes_are_refused() -> None:
    request = oip("ModelInferRequest")()
    request.inputs.add(name="x", datatype="UINT8", shape=[1]).contents.uint_contents.append(300)
    with pytest.raises(InvalidInput, match=r'input "x": expected uint8 \[rows\], got a value that is out of range'):
        single("uint8").read(request.SerializeToString())
    request.inputs[0].datatype = "FP16"
    with pytest.raises(InvalidInput, match="FP16 has no typed contents"):
        single("float16").read(request.SerializeToString())


@pytest.mark.parametrize("role", ["inputs", "outputs"])
def test_shared_memory_is_not_offered(role: str) -> None:
    message = infer({"a": A, "n": N}, raw=True)
    message.outputs.add(name="y")
    getattr(message, role)[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(Unsupported, match="is in shared memory"):
        CODEC.read(message.SerializeToString())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.booleans())
def test_damaged_bytes_are_read_or_refused(noise: bytes, place: int, raw: bool) -> None:
    good = infer({"a": A, "n": N}, raw=raw).SerializeToString()
    try:
        CODEC.read(good[:place] + noise + good[place + len(noise) // 2 :])
    except TealError as error:
        assert isinstance(error, InvalidInput | Unsupported)
