"""Open Inference Protocol, JSON form: infer bodies and the model's metadata.

Everything is strict RFC 8259 JSON. An output that holds NaN or infinity is refused with 400 naming the output:
JSON has no such numbers, and a `null` would be a silent lie. The /v1 route answers them as tokens.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput
from contracts.limits import LIMITS
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving.codec.bulk import THRESHOLD, parse_v2
from serving.codec.columns import Column, quoted, row_count
from serving.codec.jsontext import depth_exceeds, parse_strict
from serving.codec.plain import only_numbers, read_shaped
from serving.codec.render import dump, dump_numbers, texts
from serving.engine.base import Array

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
"""TensorFlow's dtype names → the protocol's words. Complex numbers have none."""

_REQUEST_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})


class Infer(NamedTuple):
    """An infer request, ready to compute. `wanted` is None when the caller wants every output."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    id: str | None
    wanted: tuple[str, ...] | None


def default_signature(signatures: tuple[Signature, ...]) -> Signature:
    """The protocol knows one signature per model: `serving_default`, or the first where none has that name."""
    return next((s for s in signatures if s.name == DEFAULT_SIGNATURE), signatures[0])


class V2Codec:
    """Reads infer bodies against a model's default signature."""

    def __init__(self, signatures: tuple[Signature, ...]) -> None:
        self.signature = default_signature(signatures)
        self._columns = {spec.name: Column(spec, self.signature.batched) for spec in self.signature.inputs}
        self._only = next(iter(self._columns.values())) if len(self._columns) == 1 else None
        self._datatype = DATATYPES.get(self._only.spec.dtype) if self._only is not None else None
        self._outputs = frozenset(spec.name for spec in self.signature.outputs)

    def read(self, body: bytes) -> Infer:
        """Raises InvalidInput for everything that does not fit."""
        value = (parse_v2(body, self._columns) if len(body) > THRESHOLD else None) or parse_strict(body)
        if type(value) is not dict:
            raise InvalidInput('expected a JSON object with "inputs"')
        if (inputs := self._read_plain(body, value)) is not None:
            return Infer(self.signature, inputs, row_count(self.signature, inputs), None, None)
        request_id = value.get("id")
        if request_id is not None and type(request_id) is not str:
            raise InvalidInput('"id" must be text')
        _check_extras(value)
        inputs = self._read_inputs(value.get("inputs"))
        rows = row_count(self.signature, inputs)
        return Infer(self.signature, inputs, rows, request_id, self._read_wanted(value.get("outputs")))

    def _read_plain(self, body: bytes, value: dict[str, Any]) -> dict[str, Array] | None:
        """The quick way for a body that is one tensor of numbers and nothing else; None for the careful way."""
        if self._only is None or len(value) != 1 or len(body) > THRESHOLD:
            return None
        match value:
            case {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data} as entry]}:
                # Strings: "inputs", the entry's four keys, and the values of two of them.
                usual = len(entry) == 4 and name == self._only.spec.name and datatype == self._datatype
                if (
                    usual
                    and only_numbers(body, strings=7)
                    and (array := read_shaped(self._only, data, shape)) is not None
                ):
                    return {name: array}
        return None

    def _read_inputs(self, entries: Any) -> dict[str, Array]:
        if type(entries) is not list or not entries:
            raise InvalidInput('"inputs" must be a list with at least one tensor')
        inputs: dict[str, Array] = {}
        for entry in entries:
            if type(entry) is not dict or type(name := entry.get("name")) is not str:
                raise InvalidInput('every tensor in "inputs" must be an object with a "name"')
            if (column := self._columns.get(name)) is None:
                known = ", ".join(quoted(n) for n in self._columns)
                raise InvalidInput(f"unknown input {quoted(name)}: expected {known}")
            if name in inputs:
                raise InvalidInput(f"input {quoted(name)} stands twice in the request")
            inputs[name] = _read_tensor(column, entry)
        if missing := [name for name in self._columns if name not in inputs]:
            raise InvalidInput(f"input {quoted(missing[0])} is missing")
        return inputs

    def _read_wanted(self, entries: Any) -> tuple[str, ...] | None:
        if entries is None:
            return None
        if type(entries) is not list:
            raise InvalidInput('"outputs" must be a list')
        names = []
        for entry in entries:
            if type(entry) is not dict or type(name := entry.get("name")) is not str:
                raise InvalidInput('every entry in "outputs" must be an object with a "name"')
            if name not in self._outputs:
                known = ", ".join(quoted(n) for n in sorted(self._outputs))
                raise InvalidInput(f"unknown output {quoted(name)}: this model has {known}")
            names.append(name)
        return tuple(names) or None


def _read_tensor(column: Column, entry: dict[str, Any]) -> Array:
    spec = column.spec
    datatype, shape = entry.get("datatype"), _read_shape(column, entry.get("shape"))
    expected = DATATYPES.get(spec.dtype)
    if datatype != expected:
        got = quoted(datatype) if type(datatype) is str else "none"
        raise InvalidInput(f"{column.expected}, that is datatype {expected}, got datatype {got}")
    if not column.in_json:
        raise InvalidInput(f"{column.expected}, which has no form in JSON")
    if "data" not in entry:
        raise InvalidInput(f'input {quoted(spec.name)} has no "data"; binary tensors are not read here')
    column.check_shape(shape)
    data, count = entry["data"], math.prod(shape)
    if isinstance(data, np.ndarray):  # read in bulk, hence flat and of the right dtype
        if len(data) != count:
            raise _wrong_count(spec.name, shape, count, len(data))
        return data.reshape(shape)
    if type(data) is not list:
        raise InvalidInput(f'input {quoted(spec.name)}: "data" must be a list')
    nested, flat = column.flatten(data)
    if len(nested) > 1 and nested != shape:
        raise InvalidInput(f'input {quoted(spec.name)}: "shape" is {list(shape)}, "data" has shape {list(nested)}')
    if len(flat) != count:
        raise _wrong_count(spec.name, shape, count, len(flat))
    return column.convert(flat).reshape(shape)


def _wrong_count(name: str, shape: tuple[int, ...], count: int, got: int) -> InvalidInput:
    return InvalidInput(f'input {quoted(name)}: "shape" {list(shape)} needs {count} values, "data" has {got}')


def _read_shape(column: Column, shape: Any) -> tuple[int, ...]:
    name = quoted(column.spec.name)
    if type(shape) is not list or any(type(d) is not int for d in shape):
        raise InvalidInput(f'input {name}: "shape" must be a list of whole numbers')
    if len(shape) > LIMITS.tensor_rank:
        raise InvalidInput(
            f'input {name}: "shape" has {len(shape)} dimensions, at most {LIMITS.tensor_rank} are allowed'
        )
    if any(d < 1 for d in shape):
        raise InvalidInput(f'input {name}: every dimension in "shape" must be at least 1, got {shape}')
    if math.prod(shape) > LIMITS.json_body:
        raise InvalidInput(f'input {name}: "shape" {shape} calls for more values than any body can hold')
    return tuple(shape)


def _check_extras(value: dict[str, Any]) -> None:
    """What nobody reads may be there, but not nested without end; `parameters` must at least be an object."""
    if type(value.get("parameters", {})) is not dict:
        raise InvalidInput('"parameters" must be an object')
    extras = [item for key, item in value.items() if key not in _REQUEST_KEYS or key == "parameters"]
    if extras and depth_exceeds(extras, LIMITS.json_depth):
        raise InvalidInput(f"body is nested deeper than {LIMITS.json_depth}")


def write(model: str, version: str, infer: Infer, outputs: Mapping[str, Array]) -> bytes:
    """Raises InvalidInput for outputs JSON cannot carry."""
    names = infer.wanted if infer.wanted is not None else tuple(outputs)
    tensors = b",".join([_tensor(name, outputs[name]) for name in names])
    head = _head(model, version)
    if infer.id is not None:
        head += b',"id":' + dump(infer.id)
    return head + b',"outputs":[' + tensors + b"]}"


@lru_cache(maxsize=16)
def _head(model: str, version: str) -> bytes:
    return b'{"model_name":' + dump(model) + b',"model_version":"' + version.encode() + b'"'


def _tensor(name: str, array: Array) -> bytes:
    if array.dtype.kind == "O":
        datatype, data = "BYTES", dump(texts(name, array.reshape(-1)))
    else:
        datatype = _datatype(array.dtype)
        data, holds_null = dump_numbers(name, array.reshape(-1))
        if holds_null:
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise InvalidInput(
                f"output {quoted(name)} holds {bad} values that are not finite (NaN or infinite), which JSON cannot "
                "carry; the /v1 route answers them as NaN and Infinity tokens"
            )
    return _tensor_head(name, datatype) + b",".join([b"%d" % n for n in array.shape]) + b'],"data":' + data + b"}"


@lru_cache(maxsize=1024)
def _tensor_head(name: str, datatype: str) -> bytes:
    """What is the same in every answer with this output."""
    return b'{"name":' + dump(name) + b',"datatype":"' + datatype.encode() + b'","shape":['


@lru_cache(maxsize=64)
def _datatype(dtype: np.dtype[Any]) -> str:
    return DATATYPES.get(dtype.name, "none")  # numpy makes this name up anew each time


def metadata(model: str, version: int, signature: Signature) -> dict[str, Any]:
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "tensorflow_savedmodel",
        "inputs": [_spec(spec) for spec in signature.inputs],
        "outputs": [_spec(spec) for spec in signature.outputs],
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": DATATYPES.get(spec.dtype, spec.dtype),
        "shape": [-1 if d is None else d for d in spec.shape or ()],
    }
