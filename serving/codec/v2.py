"""Open Inference Protocol: infer bodies, JSON with or without binary tensors after it, and the model's metadata.

The JSON is strict RFC 8259. An output that holds NaN or infinity is refused with 400 naming the output, unless it is
answered as binary data: JSON has no such numbers, and a `null` would be a silent lie. The /v1 route has tokens instead.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from contracts.errors import InvalidInput, TooLarge
from contracts.limits import LIMITS
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving.codec.bulk import THRESHOLD, parse_v2
from serving.codec.columns import Column, quoted, row_count
from serving.codec.jsontext import depth_exceeds, parse_strict
from serving.codec.plain import only_numbers, read_shaped
from serving.codec.raw import Blobs, Piece, decode, decode_whole, encode
from serving.codec.render import dump, dump_numbers, texts
from serving.engine.base import Array

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
"""TensorFlow's dtype names → the protocol's words. Complex numbers have none."""

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; binary tensors follow."""

_MOST_DIGITS = 19
_WORDS = frozenset(DATATYPES.values())
_ASK_BINARY = 'ask for it as binary data (parameter "binary_data": true)'
_REQUEST_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})


class Infer(NamedTuple):
    """An infer request, ready to compute. `wanted` is None when the caller wants every output; `binary` are the outputs
    to be answered as binary data; `timeout` is the caller's own, in seconds, None for none."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    id: str | None
    wanted: tuple[str, ...] | None
    binary: frozenset[str] = frozenset()
    timeout: float | None = None


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
        """A body that is JSON and nothing else. Raises InvalidInput for everything that does not fit."""
        value = (parse_v2(body, self._columns) if len(body) > THRESHOLD else None) or parse_strict(body)
        if type(value) is not dict:
            raise InvalidInput('expected a JSON object with "inputs"')
        if (inputs := self._read_plain(body, value)) is not None:
            return Infer(self.signature, inputs, row_count(self.signature, inputs), None, None)
        return self._read_object(value, None)

    def read_binary(self, body: bytes, json_length: bytes) -> Infer:
        """A body of JSON and binary tensors after it; `json_length` is the Inference-Header-Content-Length. With 0 it
        has no JSON and is the only input. Raises InvalidInput, and TooLarge for JSON over its own limit."""
        length = int(json_length) if json_length.isdigit() and len(json_length) <= _MOST_DIGITS else -1
        if not 0 <= length <= len(body):
            shown = json_length[:20].decode("ascii", "backslashreplace")
            raise InvalidInput(
                f"{JSON_LENGTH} is {shown!r}: expected a whole number from 0 to the length of the body, {len(body)}"
            )
        if length == 0:
            return self._read_whole(memoryview(body))
        if length > LIMITS.json_body:
            raise TooLarge(
                f"the JSON part of the body is over the limit of {LIMITS.json_body} bytes: send data as binary"
            )
        text = body[:length]
        value = (parse_v2(text, self._columns) if length > THRESHOLD else None) or parse_strict(text)
        if type(value) is not dict:
            raise InvalidInput('expected a JSON object with "inputs"')
        blobs = Blobs(memoryview(body)[length:])
        infer = self._read_object(value, blobs)
        blobs.check_empty()
        return infer

    def _read_whole(self, data: memoryview) -> Infer:
        if self._only is None:
            raise InvalidInput(f"{JSON_LENGTH} is 0, which only a model with one input takes; this one has several")
        inputs = {self._only.spec.name: decode_whole(self._only, self.signature.batched, data)}
        return Infer(self.signature, inputs, row_count(self.signature, inputs), None, None, self._outputs)

    def _read_object(self, value: dict[str, Any], blobs: Blobs | None) -> Infer:
        request_id = value.get("id")
        if request_id is not None and type(request_id) is not str:
            raise InvalidInput('"id" must be text')
        _check_extras(value)
        parameters = value.get("parameters", {})
        timeout = _read_schedule(parameters)
        inputs = self._read_inputs(value.get("inputs"), blobs)
        rows = row_count(self.signature, inputs)
        all_binary = _flag(parameters, "binary_data_output", default=False)
        wanted, binary = self._read_wanted(value.get("outputs"), all_binary)
        return Infer(self.signature, inputs, rows, request_id, wanted, binary, timeout)

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

    def _read_inputs(self, entries: Any, blobs: Blobs | None) -> dict[str, Array]:
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
            inputs[name] = _read_tensor(column, entry, blobs)
        if missing := [name for name in self._columns if name not in inputs]:
            raise InvalidInput(f"input {quoted(missing[0])} is missing")
        return inputs

    def _read_wanted(self, entries: Any, all_binary: bool) -> tuple[tuple[str, ...] | None, frozenset[str]]:
        """Names of the outputs to answer, None for all of them, and which of them as binary data."""
        if entries is None or entries == []:
            return None, self._outputs if all_binary else frozenset()
        if type(entries) is not list:
            raise InvalidInput('"outputs" must be a list')
        wanted: dict[str, bool] = {}
        for entry in entries:
            if type(entry) is not dict or type(name := entry.get("name")) is not str:
                raise InvalidInput('every entry in "outputs" must be an object with a "name"')
            if name not in self._outputs:
                known = ", ".join(quoted(n) for n in sorted(self._outputs))
                raise InvalidInput(f"unknown output {quoted(name)}: this model has {known}")
            if name in wanted:
                raise InvalidInput(f"output {quoted(name)} stands twice in the request")
            wanted[name] = _flag(entry.get("parameters", {}), "binary_data", default=all_binary)
        return tuple(wanted), frozenset([name for name, binary in wanted.items() if binary])


def _read_schedule(parameters: dict[str, Any]) -> float | None:
    """The `timeout` in seconds; it is sent in microseconds, and 0 is none. `priority` is checked only: one queue serves
    all callers in turn. Raises InvalidInput, also for names that Triton keeps to itself."""
    numbers = {name: parameters.get(name, 0) for name in ("timeout", "priority")}
    for name, number in numbers.items():
        if type(number) is not int or not 0 <= number < 2**64:
            raise InvalidInput(f'parameter "{name}" must be a whole number from 0 to 2^64-1')
    if (kept := next((name for name in parameters if name.startswith("triton_")), None)) is not None:
        raise InvalidInput(f'parameter {quoted(kept)} begins with "triton_", which no caller may use')
    return numbers["timeout"] / 1e6 or None


def _flag(parameters: Any, name: str, *, default: bool) -> bool:
    if type(parameters) is not dict:
        raise InvalidInput('"parameters" must be an object')
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidInput(f'"{name}" must be true or false')
    return value


def _read_tensor(column: Column, entry: dict[str, Any], blobs: Blobs | None) -> Array:
    spec = column.spec
    datatype, shape = entry.get("datatype"), _read_shape(column, entry.get("shape"))
    expected = DATATYPES.get(spec.dtype)
    if expected is None:
        raise InvalidInput(f"{column.expected}, which this protocol has no datatype for: use the /v1 route")
    if datatype != expected:
        got = quoted(datatype) if type(datatype) is str else "none"
        raise InvalidInput(f"{column.expected}, that is datatype {expected}, got datatype {got}")
    column.check_shape(shape)
    size = _binary_size(column, entry)
    if size is not None:
        if "data" in entry:
            raise InvalidInput(f'input {quoted(spec.name)} has both "data" and "binary_data_size"')
        if blobs is None:
            raise InvalidInput(
                f'input {quoted(spec.name)} has a "binary_data_size", but there is no header {JSON_LENGTH}'
            )
        return decode(column, shape, blobs.take(column, size))
    if "data" not in entry:
        raise InvalidInput(f'input {quoted(spec.name)} has neither "data" nor a parameter "binary_data_size"')
    if not column.in_json:
        raise InvalidInput(f"{column.expected}, which has no form in JSON: send it as binary data")
    return _read_data(column, shape, entry["data"])


def _binary_size(column: Column, entry: dict[str, Any]) -> int | None:
    parameters = entry.get("parameters", {})
    if type(parameters) is not dict:
        raise InvalidInput(f'input {quoted(column.spec.name)}: "parameters" must be an object')
    if "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidInput(f'input {quoted(column.spec.name)}: "binary_data_size" must be a number of bytes')
    return size


def _read_data(column: Column, shape: tuple[int, ...], data: Any) -> Array:
    spec, count = column.spec, math.prod(shape)
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
    if math.prod(shape) > LIMITS.binary_body:
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
    """The answer when no output is wanted as binary data. Raises InvalidInput for outputs JSON cannot carry."""
    names = infer.wanted if infer.wanted is not None else tuple(outputs)
    tensors = b",".join([_tensor(name, outputs[name]) for name in names])
    head = _head(model, version)
    if infer.id is not None:
        head += b',"id":' + dump(infer.id)
    return head + b',"outputs":[' + tensors + b"]}"


def write_binary(model: str, version: str, infer: Infer, outputs: Mapping[str, Array]) -> tuple[bytes, int]:
    """The answer with binary data after the JSON, and the length of the JSON. Raises InvalidInput for outputs that
    what was asked for cannot carry."""
    tensors, blobs = [], list[Piece]()
    for name in infer.wanted if infer.wanted is not None else tuple(outputs):
        if name not in infer.binary:
            tensors.append(_tensor(name, outputs[name]))
            continue
        array = outputs[name]
        pieces, size = encode(array)
        blobs += pieces
        tensors.append(_tensor_start(name, array) + b',"parameters":{"binary_data_size":%d}}' % size)
    head = _head(model, version)
    if infer.id is not None:
        head += b',"id":' + dump(infer.id)
    text = head + b',"outputs":[' + b",".join(tensors) + b"]}"
    return b"".join([text, *blobs]), len(text)


@lru_cache(maxsize=16)
def _head(model: str, version: str) -> bytes:
    return b'{"model_name":' + dump(model) + b',"model_version":"' + version.encode() + b'"'


def _tensor(name: str, array: Array) -> bytes:
    if array.dtype.kind == "O":
        datatype, data = "BYTES", dump(texts(name, array.reshape(-1), way_out=_ASK_BINARY))
    else:
        datatype = _datatype(array.dtype)
        data, holds_null = dump_numbers(name, array.reshape(-1), way_out=_ASK_BINARY)
        if holds_null:
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise InvalidInput(
                f"output {quoted(name)} holds {bad} values that are not finite (NaN or infinite), which JSON cannot "
                f"carry: {_ASK_BINARY}; the /v1 route answers them as NaN and Infinity tokens"
            )
    return _tensor_head(name, datatype) + b",".join([b"%d" % n for n in array.shape]) + b'],"data":' + data + b"}"


def _tensor_start(name: str, array: Array) -> bytes:
    """A tensor's JSON up to what says where its data is."""
    datatype = "BYTES" if array.dtype.kind == "O" else _datatype(array.dtype)
    if datatype not in _WORDS:
        raise InvalidInput(f"output {quoted(name)} has dtype {array.dtype}, which this protocol has no datatype for")
    return _tensor_head(name, datatype) + b",".join([b"%d" % n for n in array.shape]) + b"]"


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
