"""TensorFlow Serving's messages: what fits is read, what does not is named, and nothing else ever happens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidInput, TealError, TooLarge, Unsupported
from contracts.signature import Signature, TensorSpec
from serving.codec import v1_proto, v1_proto_examples, v1_proto_metadata
from serving.codec.v1_examples import Method
from tests.serving.codec.calls import example, examples, floats, predict, tfs

TWO = Signature(
    "serving_default",
    (TensorSpec("a", "float32", (None, 2)), TensorSpec("n", "int64", (None,))),
    (TensorSpec("y", "float32", (None,)), TensorSpec("z", "string", (None,))),
    batched=True,
)
CLASSES = Signature(
    "classes",
    (TensorSpec("examples", "string", (None,)),),
    (TensorSpec("classes", "string", (None, 2)), TensorSpec("scores", "float32", (None, 2))),
    batched=True,
    method_name="tensorflow/serving/classify",
)
PRICE = Signature(
    "price",
    (TensorSpec("examples", "string", (None,)),),
    (TensorSpec("outputs", "float32", (None, 1)),),
    batched=True,
    method_name="tensorflow/serving/regress",
)
ALL = (TWO, CLASSES, PRICE)
CODEC = v1_proto.V1ProtoCodec(ALL)
A, N = np.ones((3, 2), np.float32), np.array([1, 2, 3])


def test_a_predict_request_is_read_and_answered_with_who_answered() -> None:
    request = CODEC.read(predict({"a": A, "n": N}))
    assert (request.signature, request.rows, request.wanted) == (TWO, 3, ("y", "z"))
    assert np.array_equal(request.inputs["a"], A)
    outputs = {"y": floats(1, np.nan), "z": np.array([b"\xff", b""], object)}
    response = tfs("PredictResponse").FromString(v1_proto.write("m", 7, request, outputs))
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, "serving_default")
    assert response.outputs["y"].tensor_content == floats(1, np.nan).tobytes()
    assert list(response.outputs["z"].string_val) == [b"\xff", b""]


def test_only_filtered_outputs_are_answered() -> None:
    request = CODEC.read(predict({"a": A, "n": N}, "serving_default", ["z"]))
    response = tfs("PredictResponse").FromString(
        v1_proto.write("m", 7, request, {"y": floats(1), "z": np.array([b"t"], object)})
    )
    assert list(response.outputs) == ["z"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\xff", "is no tensorflow.serving.PredictRequest"),
        (b"", 'input "a" is missing: expected input "a", "n"'),
        (predict({"a": A}), 'input "n" is missing'),
        (predict({"a": A, "n": N, "x": N}), 'unknown input "x"'),
        (predict({"a": A, "n": N}, "nope"), 'unknown signature "nope": this model has "serving_default", "classes"'),
        (predict({"a": A, "n": N}, "", ["w"]), 'unknown output "w" in output_filter: this signature has "y", "z"'),
        (predict({"a": A, "n": N}, "", ["z", "z"]), "twice in output_filter"),
        (predict({"a": A, "n": N[:2]}), 'same number of rows, got "a" 3, "n" 2'),
        (predict({"a": A[:0], "n": N[:0]}), "at least one row"),
        (predict({"a": A.astype(np.float64), "n": N}), "expected float32 [rows, 2], got float64 [3, 2]"),
    ],
)
def test_a_predict_request_that_does_not_fit_is_named(message: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CODEC.read(message)
    assert words in refused.value.message


def test_examples_are_classified_and_regressed() -> None:
    given = [example(x=[1.5]), example(n=[3], w=[b"\xff"])]
    task = v1_proto_examples.read(ALL, Method.CLASSIFY, examples("ClassificationRequest", given, signature="classes"))
    assert task.inputs["examples"].tolist() == [each.SerializeToString() for each in given]
    outputs = {"classes": np.array([[b"a", b"b"], [b"c", b"d"]], object), "scores": floats(1, 2, 3, 4).reshape(2, 2)}
    answered = tfs("ClassificationResponse").FromString(v1_proto_examples.write("m", 7, task, outputs))
    rows = [[(c.label, c.score) for c in row.classes] for row in answered.result.classifications]
    assert rows == [[("a", 1), ("b", 2)], [("c", 3), ("d", 4)]]
    assert answered.model_spec.version.value == 7

    task = v1_proto_examples.read(ALL, Method.REGRESS, examples("RegressionRequest", given, signature="price"))
    regressed = tfs("RegressionResponse").FromString(
        v1_proto_examples.write("m", 7, task, {"outputs": floats(0.5, np.inf).reshape(2, 1)})
    )
    assert [each.value for each in regressed.result.regressions] == [0.5, np.inf]


def test_a_context_is_in_every_example_and_an_example_wins() -> None:
    message = examples(
        "ClassificationRequest", [example(x=[1]), example(y=[2])], example(x=[9], z=[3]), signature="classes"
    )
    task = v1_proto_examples.read(ALL, Method.CLASSIFY, message)
    read = [type(example()).FromString(text).features.feature for text in task.inputs["examples"]]
    assert [{k: list(v.int64_list.value) for k, v in each.items()} for each in read] == [
        {"x": [1], "z": [3]},
        {"x": [9], "y": [2], "z": [3]},
    ]


def test_a_small_request_cannot_become_a_big_one() -> None:
    bomb = examples("ClassificationRequest", [example()] * 100_000, example(w=[bytes(10_000)]), signature="classes")
    with pytest.raises(TooLarge, match="a context of"):
        v1_proto_examples.read(ALL, Method.CLASSIFY, bomb)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (examples("ClassificationRequest", [], signature="classes"), "holds no examples"),
        (examples("ClassificationRequest", [example()], signature="price"), 'has method "tensorflow/serving/regress"'),
        (examples("ClassificationRequest", [example()]), 'has method "tensorflow/serving/predict"'),
        (b"\x12\x01", "is no tensorflow.serving.ClassificationRequest"),
    ],
)
def test_examples_that_do_not_fit_are_named(message: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        v1_proto_examples.read(ALL, Method.CLASSIFY, message)
    assert words in refused.value.message


def multi(*tasks: tuple[str, str, str]) -> bytes:
    request = tfs("MultiInferenceRequest")()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.add()
    return bytes(request.SerializeToString())


CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def test_several_signatures_answer_over_the_same_examples() -> None:
    tasks = v1_proto_examples.read_multi(ALL, multi(("m", "price", REGRESS), ("m", "classes", CLASSIFY)))
    assert [task.signature.name for task in tasks] == ["price", "classes"]
    outputs = [{"outputs": floats(2)}, {"scores": floats(1, 2).reshape(1, 2)}]
    response = tfs("MultiInferenceResponse").FromString(v1_proto_examples.write_multi("m", 7, tasks, outputs))
    first, second = response.results
    assert first.regression_result.regressions[0].value == 2
    assert [(c.label, c.score) for c in second.classification_result.classifications[0].classes] == [("", 1), ("", 2)]
    assert (first.model_spec.signature_name, second.model_spec.signature_name) == ("price", "classes")


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (multi(), InvalidInput, "at least one task"),
        (multi(("m", "price", REGRESS), ("other", "classes", CLASSIFY)), InvalidInput, "the same model"),
        (
            multi(("m", "price", REGRESS), ("m", "price", REGRESS)),
            InvalidInput,
            '"price" stands in two tasks',
        ),
        (multi(("m", "price", "tensorflow/serving/predict")), Unsupported, "is not served: expected"),
        (multi(("m", "price", CLASSIFY)), InvalidInput, "has method"),
    ],
)
def test_tasks_that_do_not_fit_are_named(message: bytes, kind: type[TealError], words: str) -> None:
    with pytest.raises(kind) as refused:
        v1_proto_examples.read_multi(ALL, message)
    assert words in refused.value.message


def test_metadata_is_the_signatures_and_nothing_else_is_known() -> None:
    asked = tfs("GetModelMetadataRequest")
    answer = v1_proto_metadata.metadata("m", 7, ALL, asked(metadata_field=["signature_def"]).SerializeToString())
    response = tfs("GetModelMetadataResponse").FromString(answer)
    described = tfs("SignatureDefMap")()
    assert response.metadata["signature_def"].Unpack(described)
    assert set(described.signature_def) == {"serving_default", "classes", "price"}
    shape = described.signature_def["serving_default"].inputs["a"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, 2]
    for fields, words in (([], "is empty"), (["signature_def", "other"], '"other" does not exist')):
        with pytest.raises(InvalidInput, match=words):
            v1_proto_metadata.metadata("m", 7, ALL, asked(metadata_field=fields).SerializeToString())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from((predict({"a": A, "n": N}), b"")))
def test_damaged_bytes_are_read_or_refused(noise: bytes, place: int, good: bytes) -> None:
    message = good[:place] + noise + good[place + len(noise) // 2 :]
    for read in (
        CODEC.read,
        lambda m: v1_proto_examples.read(ALL, Method.CLASSIFY, m),
        lambda m: v1_proto_examples.read_multi(ALL, m),
    ):
        try:
            read(message)
        except (InvalidInput, TooLarge, Unsupported):
            continue


def test_deep_nesting_and_megabytes_of_unknown_fields_do_no_harm() -> None:
    nested = b""
    for _ in range(2000):
        size = len(nested)
        length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
        nested = b"\x1b" + nested + b"\x1c" if size < 3 else b"\x0a" + length + nested
    for message in (nested, b"\x0b" * 5000):  # messages in messages, and groups that never end
        with pytest.raises(InvalidInput):
            CODEC.read(message)
    unknown = b"\xfa\x01\x80\x80\x80\x04" + bytes(8 << 20)  # field 31, 8 MiB long
    assert CODEC.read(predict({"a": A, "n": N}) + unknown).rows == 3
