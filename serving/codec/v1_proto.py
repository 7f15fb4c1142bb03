"""TensorFlow Serving's Predict as protocol buffers: the same calls as v1.py in another encoding.

Which model and version are meant was read before a message gets here, so its model_spec only names the signature.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from contracts.errors import InvalidInput
from contracts.signature import DEFAULT_SIGNATURE, Signature
from serving.codec import tensorproto
from serving.codec.columns import Column, quoted, row_count
from serving.codec.messages import message_class, parse
from serving.codec.raw import Piece
from serving.engine.base import Array

PREDICT_REQUEST = message_class("tensorflow.serving.PredictRequest")
_RESPONSE = message_class("tensorflow.serving.PredictResponse")


class Predict(NamedTuple):
    """A predict request, ready to compute; `wanted` are the outputs to answer."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    wanted: tuple[str, ...]


class V1ProtoCodec:
    """Reads predict messages against the signatures of one model."""

    def __init__(self, signatures: tuple[Signature, ...]) -> None:
        self._signatures = signatures
        self._columns = {s.name: {spec.name: Column(spec, s.batched) for spec in s.inputs} for s in signatures}
        self._outputs = {s.name: tuple(spec.name for spec in s.outputs) for s in signatures}

    def read(self, message: bytes | memoryview) -> Predict:
        """Raises InvalidInput for everything that does not fit."""
        request = parse(PREDICT_REQUEST, message)
        signature = named(self._signatures, request.model_spec.signature_name)
        columns, tensors = self._columns[signature.name], request.inputs
        if tensors.keys() != columns.keys():
            raise _other_inputs(columns, tensors)
        inputs = {name: tensorproto.read(column, tensors[name]) for name, column in columns.items()}
        wanted = self._wanted(signature, request.output_filter) if request.output_filter else None
        return Predict(signature, inputs, row_count(signature, inputs), wanted or self._outputs[signature.name])

    def _wanted(self, signature: Signature, names: Any) -> tuple[str, ...]:
        wanted = tuple(names)
        known = self._outputs[signature.name]
        for name in wanted:
            if name not in known:
                listed = ", ".join(map(quoted, known))
                raise InvalidInput(f"unknown output {quoted(name)} in output_filter: this signature has {listed}")
        if len(set(wanted)) != len(wanted):
            raise InvalidInput("an output stands twice in output_filter")
        return wanted


def named(signatures: tuple[Signature, ...], name: str) -> Signature:
    """The signature of this name, the default one for none. Raises InvalidInput."""
    name = name or DEFAULT_SIGNATURE
    for signature in signatures:
        if signature.name == name:
            return signature
    known = ", ".join(quoted(s.name) for s in signatures)
    raise InvalidInput(f"unknown signature {quoted(name)}: this model has {known}")


def fill_spec(spec: Any, model: str, version: int, signature: str) -> None:
    """Say in a ModelSpec who answers: the actual version, whatever was asked for."""
    spec.name = model
    spec.version.value = version
    spec.signature_name = signature


def write(model: str, version: int, predict: Predict, outputs: Mapping[str, Array]) -> bytes:
    """The PredictResponse. Raises InvalidInput for outputs that TensorFlow has no tensors for."""
    pieces: list[Piece] = [_spec(model, version, predict.signature.name)]
    for name in predict.wanted:
        head, elements = tensorproto.entry(name, outputs[name])
        pieces.append(head)
        pieces += elements
    return b"".join(pieces)


@lru_cache(maxsize=64)
def _spec(model: str, version: int, signature: str) -> bytes:
    """A PredictResponse with nothing but its model_spec; protobuf lets fields stand in any order."""
    response = _RESPONSE()
    fill_spec(response.model_spec, model, version, signature)
    return bytes(response.SerializeToString())


def _other_inputs(columns: Mapping[str, Column], tensors: Any) -> InvalidInput:
    listed = ", ".join(map(quoted, columns))
    for name in columns:
        if name not in tensors:
            return InvalidInput(f"input {quoted(name)} is missing: expected input {listed}")
    odd = min(name for name in tensors if name not in columns)
    return InvalidInput(f"unknown input {quoted(odd)}: expected input {listed}")
