"""TensorFlow Serving's :classify and :regress over REST: feature lists in, labels with scores or numbers out.

The features become serialized tf.Examples, which is what such a signature takes; parsing them is the model's part.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput, TooLarge
from contracts.limits import LIMITS
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
    name = examples_input(signature, method)
    column = Column(signature.inputs[0], signature.batched)
    entries = value.get("examples")
    if type(entries) is not list or not entries:
        raise InvalidInput('"examples" must be a list with at least one object of features')
    context = _read_features("context", value["context"]) if "context" in value else {}
    check_context(len(serialize(context)), len(entries))
    serialized = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        serialized[i] = serialize(context | _read_features(f"example {i}", entry))
    column.check_shape(serialized.shape)
    inputs = {name: serialized}
    return Examples(signature, inputs, row_count(signature, inputs), method)


def check_context(size: int, examples: int) -> None:
    """A context of `size` bytes costs that much for every example, so a small request could make a big one.
    Raises TooLarge."""
    if size * examples > LIMITS.binary_body:
        raise TooLarge(
            f"a context of {size} bytes for each of {examples} examples is over the limit of {LIMITS.binary_body} "
            "bytes: send fewer examples at a time"
        )


def examples_input(signature: Signature, method: Method) -> str:
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
        return b'{"results":[' + b",".join(_json_numbers("outputs", regressed(outputs, count))) + b"]}"
    classes, scores, width = classified(outputs, count)
    labels = [dump(text) for text in texts("classes", classes)] if classes is not None else [b'""'] * (count * width)
    values = _json_numbers("scores", scores) if scores is not None else [b"0.0"] * (count * width)
    pairs = [b"[" + label + b"," + value + b"]" for label, value in zip(labels, values, strict=True)]
    rows = [b"[" + b",".join(pairs[i * width : (i + 1) * width]) + b"]" for i in range(count)]
    return b'{"results":[' + b",".join(rows) + b"]}"


def classified(outputs: Mapping[str, Array], count: int) -> tuple[Array | None, Array | None, int]:
    """Labels and scores of `count` examples in row-major order, either of which a model may not have, and how many of
    them each example has. Raises InvalidInput for outputs of another form."""
    classes, scores = outputs.get("classes"), outputs.get("scores")
    shape = (classes if classes is not None else outputs["scores"]).shape
    width = shape[1] if len(shape) > 1 else 1
    return (
        _checked("classes", classes, count, width) if classes is not None else None,
        _checked("scores", scores, count, width) if scores is not None else None,
        width,
    )


def regressed(outputs: Mapping[str, Array], count: int) -> Array:
    """The number of each of `count` examples. Raises InvalidInput for outputs of another form."""
    return _checked("outputs", outputs["outputs"], count, 1)


def _checked(name: str, array: Array, count: int, width: int) -> Array:
    """The output, flat."""
    kind, dtype = ("O", "string") if name == "classes" else ("f", "float32")
    if array.dtype.kind != kind or (array.shape != (count, width) and not (width == 1 and array.shape == (count,))):
        got = "string" if array.dtype.kind == "O" else array.dtype.name
        raise InvalidInput(
            f"output {quoted(name)} is {got} {list(array.shape)}, not {dtype} [{count}, {width}]: use :predict"
        )
    return array.reshape(-1)


def _json_numbers(name: str, flat: Array) -> Sequence[bytes]:
    """Each number as JSON text."""
    if not flat.size:
        return []
    text, holds_null = dump_numbers(name, flat)
    return (with_tokens(text, flat) if holds_null else text)[1:-1].split(b",")
