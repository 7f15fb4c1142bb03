"""TensorFlow Serving's :classify and :regress over REST."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from serving.codec.example import serialize
from serving.engine.base import Array, Tensors
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine
from tests.serving.http.asgi import Answer, Client, run

EXAMPLES = TensorSpec("inputs", "string", (None,))
CLASSIFY = Signature(
    "serving_default",
    (EXAMPLES,),
    (TensorSpec("classes", "string", (None, 2)), TensorSpec("scores", "float32", (None, 2))),
    batched=True,
    method_name="tensorflow/serving/classify",
)
REGRESS = Signature(
    "regress",
    (EXAMPLES,),
    (TensorSpec("outputs", "float32", (None, 1)),),
    batched=True,
    method_name="tensorflow/serving/regress",
)


def ask(
    verb: str, body: Any, formula: Callable[[Tensors], dict[str, Array]], signatures: Any = (CLASSIFY, REGRESS)
) -> Answer:
    async def story(client: Client) -> Answer:
        return await client.predict(body, f"/v1/models/half_plus_two:{verb}")

    return run(story, FormulaEngine(formula), signatures)  # type: ignore[no-any-return]


def two_classes(inputs: Tensors) -> dict[str, Array]:
    rows = len(inputs["inputs"])
    return {
        "classes": np.array([[b"cat", b"d\xc3\xb6g"]] * rows, object),
        "scores": np.array([[0.1, 0.9]] * rows, np.float32),
    }


def lengths(inputs: Tensors) -> dict[str, Array]:
    return {"outputs": np.array([[len(text)] for text in inputs["inputs"]], np.float32)}


def test_classify_answers_labels_with_scores_under_results() -> None:
    answer = ask("classify", {"examples": [{"x": 1.0}, {"x": [2.0]}]}, two_classes)
    assert answer.status == 200
    row = '[["cat",0.1],["dög",0.9]]'
    assert answer.body.decode() == f'{{"results":[{row},{row}]}}'


def test_a_classification_may_lack_labels_or_scores() -> None:
    only_scores = replace(CLASSIFY, outputs=CLASSIFY.outputs[1:])
    answer = ask("classify", {"examples": [{}]}, lambda i: {"scores": two_classes(i)["scores"]}, (only_scores,))
    assert answer.body.decode() == '{"results":[[["",0.1],["",0.9]]]}'
    only_classes = replace(CLASSIFY, outputs=CLASSIFY.outputs[:1])
    answer = ask("classify", {"examples": [{}]}, lambda i: {"classes": two_classes(i)["classes"]}, (only_classes,))
    assert answer.body.decode() == '{"results":[[["cat",0.0],["dög",0.0]]]}'


def test_regress_answers_a_number_per_example() -> None:
    body = {"signature_name": "regress", "examples": [{}, {"a": []}]}
    assert ask("regress", body, lengths).body == b'{"results":[2.0,9.0]}'
    flat = lambda i: {"outputs": np.array([np.nan, -np.inf], np.float32)}  # noqa: E731
    assert ask("regress", body, flat).body == b'{"results":[NaN,-Infinity]}'


def test_the_context_is_part_of_every_example_that_does_not_say_otherwise() -> None:
    seen: list[bytes] = []

    def remember(inputs: Tensors) -> dict[str, Array]:
        seen.extend(inputs["inputs"].tolist())
        return two_classes(inputs)

    ask("classify", {"context": {"a": 1, "b": "x"}, "examples": [{"a": [2]}, {"c": True}]}, remember)
    assert seen[:2] == [serialize({"a": [2], "b": [b"x"]}), serialize({"a": [1], "b": [b"x"], "c": [1]})]


@pytest.mark.parametrize(
    "examples",
    [
        ..., [], {}, 1, [1], [[]], [None], [{"x": None}], [{"x": [1, "a"]}], [{"x": [1, 2.5]}], [{"x": [[1]]}],
        [{"x": {"a": 1}}], [{"x": {"b64": "!"}}], [{"x": {"b64": 1}}], [{"x": [1, None]}], [{"x": 2**63}],
        [{"x": -(2**63) - 1}], [{"x": 10**30}], [{"x": 1e300}], [{"x": "a"}, 7],
    ],
)  # fmt: skip
def test_examples_that_are_none_are_400(examples: Any) -> None:
    body = {} if examples is ... else {"examples": examples}
    assert ask("classify", body, two_classes).status == 400
    if examples is not ... and type(examples) is list and len(examples) == 1:
        assert ask("classify", {"context": examples[0], "examples": [{}]}, two_classes).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"7", b'{"instances":[1]}', b'{"examples":[{"x":1}]', b'{"signature_name":7,"examples":[{}]}',
        b'{"signature_name":"nope","examples":[{}]}', b'{"examples":[{}],"examples":[{}]}',
        b'{"examples":[{"\\ud800":1}]}', b'{"examples":[{"x":"\\ud800"}]}', b'{"examples":' + b"[" * 100_000,
        b'{"examples":[{}],"other":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)  # fmt: skip
def test_bodies_that_do_not_fit_are_400(body: bytes) -> None:
    answer = ask("classify", body, two_classes)
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_a_signature_of_another_method_is_400_and_says_so() -> None:
    answer = ask("regress", {"examples": [{}]}, two_classes)
    assert answer.status == 400
    assert answer.json["error"] == (
        'signature "serving_default" has method "tensorflow/serving/classify", '
        ':regress needs "tensorflow/serving/regress"'
    )
    assert ask("classify", {"examples": [{}]}, two_classes, (HALF_PLUS_TWO,)).status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (TensorSpec("inputs", "float32", (None,)),)},
        {"inputs": (EXAMPLES, replace(EXAMPLES, name="more"))},
        {"inputs": (TensorSpec("inputs", "string", (None, 2)),)},
        {"outputs": (TensorSpec("y", "float32", (None, 2)),)},
    ],
)
def test_a_signature_that_takes_no_examples_is_400(changes: dict[str, Any]) -> None:
    assert ask("classify", {"examples": [{}]}, two_classes, (replace(CLASSIFY, **changes),)).status == 400


@pytest.mark.parametrize(
    "outputs",
    [
        {"scores": np.zeros((1, 2), np.float32), "classes": np.array([[b"a"]], object)},
        {"scores": np.zeros((1, 2), np.int32), "classes": np.array([[b"a", b"b"]], object)},
        {"scores": np.zeros((1, 2), np.float32), "classes": np.array([[1, 2]])},
        {"scores": np.zeros((1, 2), np.float32), "classes": np.array([[b"a", b"\xff"]], object)},
        {"scores": np.zeros((1, 2, 1), np.float32), "classes": np.array([[b"a", b"b"]], object)},
    ],
)
def test_outputs_that_are_no_classification_are_400(outputs: dict[str, Array]) -> None:
    dtypes = {name: "string" if array.dtype == object else str(array.dtype) for name, array in outputs.items()}
    honest = replace(CLASSIFY, outputs=tuple(TensorSpec(name, dtypes[name], None) for name in ("classes", "scores")))
    answer = ask("classify", {"examples": [{}]}, lambda _: outputs, (honest,))
    assert answer.status == 400
    assert "output" in answer.json["error"]


def test_predict_still_takes_serialized_examples() -> None:
    answer = ask("predict", {"signature_name": "regress", "instances": ["ab"]}, lengths)
    assert json.loads(answer.body) == {"predictions": [[2.0]]}
