"""TensorFlow Serving's Classify, Regress and MultiInference as protocol buffers: tf.Examples in, labels with scores or
numbers out. v1_examples.py is the same for JSON and knows which signatures are made for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput, Unsupported
from contracts.signature import Signature
from serving.codec.columns import Column, quoted, row_count
from serving.codec.messages import message_class, parse
from serving.codec.render import texts
from serving.codec.v1_examples import Method, check_context, classified, examples_input, regressed
from serving.codec.v1_proto import fill_spec, named
from serving.engine.base import Array

REQUESTS = {
    Method.CLASSIFY: message_class("tensorflow.serving.ClassificationRequest"),
    Method.REGRESS: message_class("tensorflow.serving.RegressionRequest"),
}
MULTI_REQUEST = message_class("tensorflow.serving.MultiInferenceRequest")
_RESPONSES = {
    Method.CLASSIFY: message_class("tensorflow.serving.ClassificationResponse"),
    Method.REGRESS: message_class("tensorflow.serving.RegressionResponse"),
}
_MULTI_RESPONSE = message_class("tensorflow.serving.MultiInferenceResponse")
_NO_LABEL = "labels are text; use Predict"
_METHODS = {f"tensorflow/serving/{method.value}": method for method in Method}


class Task(NamedTuple):
    """One signature to run over the examples of a request, ready to compute."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    method: Method


def read(signatures: tuple[Signature, ...], method: Method, message: bytes | memoryview) -> Task:
    """A Classify or Regress request. Raises InvalidInput, also for a signature of another method; TooLarge."""
    request = parse(REQUESTS[method], message)
    signature = named(signatures, request.model_spec.signature_name)
    return _task(signature, method, serialized(request.input))


def read_multi(signatures: tuple[Signature, ...], message: bytes | memoryview) -> tuple[Task, ...]:
    """A MultiInference request: each signature at most once, all over the same examples. Raises InvalidInput,
    TooLarge, and Unsupported for a method that is neither of the two."""
    request = parse(MULTI_REQUEST, message)
    if not request.tasks:
        raise InvalidInput("a MultiInference request needs at least one task")
    if len({task.model_spec.name for task in request.tasks}) > 1:
        raise InvalidInput("all tasks of a MultiInference request must name the same model")
    examples = serialized(request.input)
    tasks: dict[str, Task] = {}
    for task in request.tasks:
        signature = named(signatures, task.model_spec.signature_name)
        if signature.name in tasks:
            raise InvalidInput(f"signature {quoted(signature.name)} stands in two tasks: ask for it once")
        if (method := _METHODS.get(task.method_name)) is None:
            known = " or ".join(map(quoted, _METHODS))
            raise Unsupported(f"method_name {quoted(task.method_name)} is not served: expected {known}")
        tasks[signature.name] = _task(signature, method, examples)
    return tuple(tasks.values())


def serialized(given: Any) -> list[bytes]:
    """The examples of an Input, each as a signature takes it. The shared context of a list stands before each of them:
    of two values of one feature the later counts, and joining the bytes of two messages merges them. Raises
    TooLarge."""
    kind = given.WhichOneof("kind")
    listed = getattr(given, kind).examples if kind is not None else ()
    context = b""
    if kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
    check_context(len(context), len(listed))
    return [context + example.SerializeToString() for example in listed]


def _task(signature: Signature, method: Method, examples: list[bytes]) -> Task:
    name = examples_input(signature, method)
    if not examples:
        raise InvalidInput("the request holds no examples: expected at least one")
    texts = np.empty(len(examples), object)
    texts[:] = examples
    Column(signature.inputs[0], signature.batched).check_shape(texts.shape)
    inputs = {name: texts}
    return Task(signature, inputs, row_count(signature, inputs), method)


def write(model: str, version: int, task: Task, outputs: Mapping[str, Array]) -> bytes:
    """The ClassificationResponse or RegressionResponse. Raises InvalidInput where the model's outputs are not of that
    form."""
    response = _RESPONSES[task.method]()
    fill_spec(response.model_spec, model, version, task.signature.name)
    _fill(response.result, task, outputs)
    return bytes(response.SerializeToString())


def write_multi(model: str, version: int, tasks: Sequence[Task], outputs: Sequence[Mapping[str, Array]]) -> bytes:
    """The MultiInferenceResponse for the outputs of each task. Raises InvalidInput as `write`."""
    response = _MULTI_RESPONSE()
    for task, computed in zip(tasks, outputs, strict=True):
        result = response.results.add()
        fill_spec(result.model_spec, model, version, task.signature.name)
        classify = task.method is Method.CLASSIFY
        _fill(result.classification_result if classify else result.regression_result, task, computed)
    return bytes(response.SerializeToString())


def _fill(result: Any, task: Task, outputs: Mapping[str, Array]) -> None:
    count = len(next(iter(task.inputs.values())))
    if task.method is Method.REGRESS:
        for value in regressed(outputs, count).tolist():
            result.regressions.add(value=value)
        return
    classes, scores, width = classified(outputs, count)
    labels = texts("classes", classes, _NO_LABEL) if classes is not None else [""] * (count * width)
    values = scores.tolist() if scores is not None else [0.0] * (count * width)
    for i in range(count):
        listed = result.classifications.add().classes
        for j in range(i * width, (i + 1) * width):
            listed.add(label=labels[j], score=values[j])
