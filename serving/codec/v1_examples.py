"""TensorFlow Serving's :classify and :regress over REST: feature lists in, labels with scores or numbers out.

The features become serialized tf.Examples, which is what such a signature takes; parsing them is the model's part.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput
from contracts.signature import Signature
from serving.codec.columns import Column, decode_b64, is_b64, quoted, row_count
from serving.codec.example import Feature, serialize
from serving.codec.render import dump, dump_numbers, texts, with_tokens
from serving.engine.base import Array

_INT64 = 2**63


class Method(Enum):
    """What a signature is made for, beside predict. The value stands in the URL and ends the method name."""

    CLASSIFY = "classify"
    REGRESS = "regress"


# Outputs as TensorFlow names them: a classification has one of the two or both.
_OUTPUTS = {Method.CLASSIFY: ("classes", "scores"), Method.REGRESS: ("outputs",)}


class Examples(NamedTuple):
    """A classify or regress request, ready to compute."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    method: Method


def read(signature: Signature, method: Method, value: Mapping[str, Any]) -> Examples:
    """Raises InvalidInput for a signature of another method and for examples that are none."""
    name = _examples_input(signature, method)
    column = Column(signature.inputs[0], signature.batched)
    entries = value.get("examples")
    if type(entries) is not list or not entries:
        raise InvalidInput('"examples" must be a list with at least one object of features')
    context = _read_features("context", value["context"]) if "context" in value else {}
    serialized = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        serialized[i] = serialize(context | _read_features(f"example {i}", entry))
    column.check_shape(serialized.shape)
    inputs = {name: serialized}
    return Examples(signature, inputs, row_count(signature, inputs), method)


def _examples_input(signature: Signature, method: Method) -> str:
    """The name of the input that takes serialized examples."""
    wanted = f"tensorflow/serving/{method.value}"
    shown = f"signature {quoted(signature.name)}"
    if signature.method_name != wanted:
        raise InvalidInput(
            f"{shown} has method {quoted(signature.method_name)}, :{method.value} needs {quoted(wanted)}"
        )
    if len(signature.inputs) != 1 or signature.inputs[0].dtype != "string":
        raise InvalidInput(f"{shown} takes something else than one string tensor of serialized examples: use :predict")
    names = _OUTPUTS[method]
    if not any(spec.name in names for spec in signature.outputs):
        listed = " or ".join(map(quoted, names))
        raise InvalidInput(f"{shown} has no output {listed}, as :{method.value} needs: use :predict")
    return signature.inputs[0].name


def _read_features(where: str, entry: Any) -> dict[str, Feature]:
    if type(entry) is not dict:
        raise InvalidInput(f"{where}: expected an object of features")
    features = {}
    for name, values in entry.items():
        shown = f"{where}, feature {quoted(name)}"
        try:
            name.encode()
            features[name] = _read_feature(shown, values if type(values) is list else [values])
        except UnicodeEncodeError:
            raise InvalidInput(f"{shown}: text with half a surrogate pair") from None
    return features


def _read_feature(shown: str, values: list[Any]) -> Feature:
    """One kind of values: whole numbers and true/false, numbers with a fraction, or text."""
    kinds = set(map(type, values))
    if kinds <= {int, bool}:
        whole = [int(value) for value in values]
        if (bad := next((v for v in whole if not -_INT64 <= v < _INT64), None)) is not None:
            raise InvalidInput(f"{shown}: {str(bad)[:30]} does not fit into 64 bits")
        return whole
    if kinds == {float}:
        try:
            struct.pack(f"<{len(values)}f", *values)
        except OverflowError:
            raise InvalidInput(f"{shown}: a number is out of range for 32-bit floats") from None
        return values
    if all(type(value) is str or is_b64(value) for value in values):
        try:
            return [value.encode() if type(value) is str else decode_b64(value["b64"]) for value in values]
        except InvalidInput as error:
            raise InvalidInput(f"{shown}: {error.message}") from None
    raise InvalidInput(
        f"{shown}: expected one value or a list of values of one kind: whole numbers, numbers with a fraction, or text"
    )


def write(examples: Examples, outputs: Mapping[str, Array]) -> bytes:
    """`{"results": …}`: a list of [label, score] per example, or a number per example. Raises InvalidInput where the
    model's outputs are not of that form."""
    count = len(next(iter(examples.inputs.values())))
    if examples.method is Method.REGRESS:
        return b'{"results":[' + b",".join(_numbers("outputs", outputs["outputs"], count, 1)) + b"]}"
    classes, scores = outputs.get("classes"), outputs.get("scores")
    shape = (classes if classes is not None else outputs["scores"]).shape
    width = shape[1] if len(shape) > 1 else 1
    labels = _labels(classes, count, width) if classes is not None else [b'""'] * (count * width)
    values = _numbers("scores", scores, count, width) if scores is not None else [b"0.0"] * (count * width)
    pairs = [b"[" + label + b"," + value + b"]" for label, value in zip(labels, values, strict=True)]
    rows = [b"[" + b",".join(pairs[i * width : (i + 1) * width]) + b"]" for i in range(count)]
    return b'{"results":[' + b",".join(rows) + b"]}"


def _labels(array: Array, count: int, width: int) -> Sequence[bytes]:
    if array.dtype.kind != "O":
        raise _wrong_output("classes", array, count, width)
    _check_shape("classes", array, count, width)
    return [dump(text) for text in texts("classes", array.reshape(-1))]


def _numbers(name: str, array: Array, count: int, width: int) -> Sequence[bytes]:
    """Each number as JSON text, in row-major order."""
    if array.dtype.kind != "f":
        raise _wrong_output(name, array, count, width)
    _check_shape(name, array, count, width)
    flat = array.reshape(-1)
    if not flat.size:
        return []
    text, holds_null = dump_numbers(name, flat)
    return (with_tokens(text, flat) if holds_null else text)[1:-1].split(b",")


def _check_shape(name: str, array: Array, count: int, width: int) -> None:
    if array.shape != (count, width) and not (width == 1 and array.shape == (count,)):
        raise _wrong_output(name, array, count, width)


def _wrong_output(name: str, array: Array, count: int, width: int) -> InvalidInput:
    dtype = "string" if array.dtype.kind == "O" else array.dtype.name
    expected = f"{'string' if name == 'classes' else 'float32'} [{count}, {width}]"
    return InvalidInput(f"output {quoted(name)} is {dtype} {list(array.shape)}, not {expected}: use :predict")
