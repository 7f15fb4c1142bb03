"""The Open Inference Protocol's ModelInfer as protocol buffers: the same calls as v2.py in another encoding.

Tensors come either all as raw bytes beside the list of inputs or all as typed contents inside of it, and outputs go
back the way the inputs came. What has no typed form (16-bit floats) makes the whole answer raw. Both carry NaN.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput, Unsupported
from contracts.signature import Signature
from serving.codec import raw, v2_write
from serving.codec.columns import Column, quoted, row_count
from serving.codec.messages import message_class, parse
from serving.codec.v2_read import read_schedule, read_shape
from serving.codec.v2_words import DATATYPES, default_signature
from serving.engine.base import Array

_REQUEST = message_class("inference.ModelInferRequest")
_RESPONSE = message_class("inference.ModelInferResponse")
_READY = message_class("inference.ModelReadyResponse")
_METADATA = message_class("inference.ModelMetadataResponse")
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_SHARED_MEMORY = "shared_memory_region"


class Infer(NamedTuple):
    """An infer request, ready to compute. `wanted` are the outputs to answer, raw or typed; `timeout` is the caller's
    own, in seconds, None for none; `priority` is 0 for none and otherwise the more urgent the smaller."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    id: str
    wanted: tuple[str, ...]
    raw: bool
    timeout: float | None
    priority: int


class V2ProtoCodec:
    """Reads infer messages against a model's default signature."""

    def __init__(self, signatures: tuple[Signature, ...]) -> None:
        self.signature = default_signature(signatures)
        self._columns = {spec.name: Column(spec, self.signature.batched) for spec in self.signature.inputs}
        self._outputs = tuple(spec.name for spec in self.signature.outputs)

    def read(self, message: bytes | memoryview) -> Infer:
        """Raises InvalidInput for everything that does not fit, Unsupported for shared memory."""
        request = parse(_REQUEST, message)
        timeout, priority = read_schedule(_plain(request.parameters)) if request.parameters else (None, 0)
        blobs = request.raw_input_contents
        inputs = self._inputs(request.inputs, blobs)
        wanted = self._wanted(request.outputs) if request.outputs else self._outputs
        rows = row_count(self.signature, inputs)
        return Infer(self.signature, inputs, rows, request.id, wanted, bool(blobs), timeout, priority)

    def _inputs(self, tensors: Any, blobs: Any) -> dict[str, Array]:
        if blobs and len(blobs) != len(tensors):
            for tensor in tensors:
                _refuse_shared_memory(f"input {quoted(tensor.name)}", tensor)
            raise InvalidInput(
                f"raw_input_contents has {len(blobs)} entries for {len(tensors)} inputs: expected one for each, in the "
                "same order, or none at all"
            )
        inputs: dict[str, Array] = {}
        for i, tensor in enumerate(tensors):
            name = tensor.name
            if (column := self._columns.get(name)) is None:
                known = ", ".join(map(quoted, self._columns))
                raise InvalidInput(f"unknown input {quoted(name)}: expected {known}")
            if name in inputs:
                raise InvalidInput(f"input {quoted(name)} stands twice in the request")
            _refuse_shared_memory(f"input {quoted(name)}", tensor)
            inputs[name] = _read_tensor(column, tensor, blobs[i] if blobs else None)
        if missing := [name for name in self._columns if name not in inputs]:
            raise InvalidInput(f"input {quoted(missing[0])} is missing")
        return inputs

    def _wanted(self, entries: Any) -> tuple[str, ...]:
        wanted: dict[str, None] = {}
        for entry in entries:
            shown = f"output {quoted(entry.name)}"
            if entry.name not in self._outputs:
                known = ", ".join(map(quoted, self._outputs))
                raise InvalidInput(f"unknown {shown}: this model has {known}")
            if entry.name in wanted:
                raise InvalidInput(f"{shown} stands twice in the request")
            _refuse_shared_memory(shown, entry)
            wanted[entry.name] = None
        return tuple(wanted)


def _plain(parameters: Any) -> dict[str, Any]:
    """InferParameters by name, as plain values; None for one that says nothing."""
    values = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = getattr(parameter, choice) if choice is not None else None
    return values


def _refuse_shared_memory(shown: str, tensor: Any) -> None:
    if tensor.parameters and _SHARED_MEMORY in tensor.parameters:
        raise Unsupported(f"{shown} is in shared memory, which is not offered: send and take tensors in the message")


def _read_tensor(column: Column, tensor: Any, blob: bytes | None) -> Array:
    spec = column.spec
    expected = DATATYPES.get(spec.dtype)
    if expected is None:
        raise InvalidInput(f"{column.expected}, which this protocol has no datatype for: use PredictionService")
    if tensor.datatype != expected:
        raise InvalidInput(
            f"{column.expected}, that is datatype {expected}, got datatype {quoted(tensor.datatype)} "
            f"{list(tensor.shape[:8])}"
        )
    shape = read_shape(column, list(tensor.shape))
    column.check_shape(shape)
    if blob is None:
        return _read_contents(column, expected, shape, tensor.contents)
    if tensor.contents.ByteSize():
        raise InvalidInput(f"input {quoted(spec.name)} has contents beside raw_input_contents: expected one of the two")
    return raw.decode(column, shape, memoryview(blob))


def _read_contents(column: Column, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    name, count, field = quoted(column.spec.name), math.prod(shape), CONTENTS.get(datatype)
    if field is None:
        raise InvalidInput(f"{column.expected}, and {datatype} has no typed contents: send it in raw_input_contents")
    for other, _ in contents.ListFields():
        if other.name != field:
            raise InvalidInput(f"input {name}: {datatype} belongs into {field}, got {other.name}")
    values = getattr(contents, field)
    if len(values) != count:
        raise InvalidInput(f"input {name}: shape {list(shape)} needs {count} values in {field}, got {len(values)}")
    if datatype == "BYTES":
        texts = np.empty(count, object)
        texts[:] = values
        return texts.reshape(shape)
    wide = np.array(values)  # protobuf lends its memory
    array = wide.astype(column.dtype)
    if wide.dtype != array.dtype and not np.array_equal(wide, array):
        raise InvalidInput(f"{column.expected}, got a value that is out of range")
    return array.reshape(shape)


def write(model: str, version: str, infer: Infer, outputs: Mapping[str, Array]) -> bytes:
    """The ModelInferResponse. Raises InvalidInput for outputs the protocol has no datatype for."""
    response = _RESPONSE(model_name=model, model_version=version, id=infer.id)
    datatypes = {name: v2_write.datatype_of(name, outputs[name]) for name in infer.wanted}
    as_raw = infer.raw or not CONTENTS.keys() >= set(datatypes.values())
    for name, datatype in datatypes.items():
        array = outputs[name]
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if as_raw:
            response.raw_output_contents.append(b"".join(raw.encode(array)[0]))
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.reshape(-1).tolist())
    return bytes(response.SerializeToString())


def ready(*, is_ready: bool) -> bytes:
    """The ModelReadyResponse."""
    return bytes(_READY(ready=is_ready).SerializeToString())


def metadata(model: str, version: int, signature: Signature) -> bytes:
    """The ModelMetadataResponse: what v2.py says in JSON."""
    return bytes(_METADATA(**v2_write.metadata(model, version, signature)).SerializeToString())
