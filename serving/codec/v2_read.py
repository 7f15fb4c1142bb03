"""Reads infer bodies of the Open Inference Protocol: JSON with or without binary tensors after it.

The JSON is strict RFC 8259. Every tensor is checked against the signature before anything of its size is made.
"""

import math
from typing import Any

import numpy as np

from contracts.errors import InvalidInput, TooLarge
from contracts.limits import LIMITS
from contracts.signature import Signature
from serving.codec.bulk import THRESHOLD, parse_v2
from serving.codec.columns import Column, quoted, row_count
from serving.codec.jsontext import depth_exceeds, parse_strict, reject_any_repeated_key
from serving.codec.plain import only_numbers, read_shaped
from serving.codec.raw import Blobs, decode, decode_whole
from serving.codec.v2_words import DATATYPES, JSON_LENGTH, Infer, default_signature
from serving.engine.base import Array

_MOST_DIGITS = 19
_REQUEST_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})


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
        _check_keys_once(body, value)
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
        _check_keys_once(text, value)
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
        timeout, priority = read_schedule(parameters)
        inputs = self._read_inputs(value.get("inputs"), blobs)
        rows = row_count(self.signature, inputs)
        all_binary = _flag(parameters, "binary_data_output", default=False)
        wanted, binary = self._read_wanted(value.get("outputs"), all_binary)
        return Infer(self.signature, inputs, rows, request_id, wanted, binary, timeout, priority)

    def _read_plain(self, body: bytes, value: dict[str, Any]) -> dict[str, Array] | None:
        """The quick way for a body that is one tensor of numbers and nothing else; None for the careful way."""
        if self._only is None or len(value) != 1 or len(body) > THRESHOLD:
            return None
        entries = value.get("inputs")
        if type(entries) is not list or len(entries) != 1 or type(entry := entries[0]) is not dict or len(entry) != 4:
            return None
        name = entry.get("name")
        if name != self._only.spec.name or entry.get("datatype") != self._datatype:
            return None
        # Strings: "inputs", the entry's four keys, and the values of two of them.
        if not only_numbers(body, strings=7):
            return None
        array = read_shaped(self._only, entry.get("data"), entry.get("shape"))
        return None if array is None else {name: array}

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


def _check_keys_once(text: bytes, value: dict[str, Any]) -> None:
    """Raise InvalidInput when a key stands twice in one object: which of the two was meant is anybody's guess.

    Every key has a colon, so with as many colons as keys that were kept there is none. More of them may also stand in
    text, or in objects where none belong; only then the body is read again."""
    kept, objects = 0, [value]
    for key in ("inputs", "outputs"):
        entries = value.get(key)
        objects += entries if type(entries) is list else []
    for entry in objects:
        if type(entry) is dict:
            parameters = entry.get("parameters")
            kept += len(entry) + (len(parameters) if type(parameters) is dict else 0)
    if text.count(b":") != kept:
        reject_any_repeated_key(text)


def read_schedule(parameters: dict[str, Any]) -> tuple[float | None, int]:
    """The `timeout` in seconds, which is sent in microseconds and where 0 is none, and the `priority`.
    Raises InvalidInput, also for names that Triton keeps to itself."""
    numbers = {name: parameters.get(name, 0) for name in ("timeout", "priority")}
    for name, number in numbers.items():
        if type(number) is not int or not 0 <= number < 2**64:
            raise InvalidInput(f'parameter "{name}" must be a whole number from 0 to 2^64-1')
    if (kept := next((name for name in parameters if name.startswith("triton_")), None)) is not None:
        raise InvalidInput(f'parameter {quoted(kept)} begins with "triton_", which no caller may use')
    return numbers["timeout"] / 1e6 or None, numbers["priority"]


def _flag(parameters: Any, name: str, *, default: bool) -> bool:
    if type(parameters) is not dict:
        raise InvalidInput('"parameters" must be an object')
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidInput(f'"{name}" must be true or false')
    return value


def _read_tensor(column: Column, entry: dict[str, Any], blobs: Blobs | None) -> Array:
    spec = column.spec
    datatype, shape = entry.get("datatype"), read_shape(column, entry.get("shape"))
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


def read_shape(column: Column, shape: Any) -> tuple[int, ...]:
    """A shape that some body could hold. Raises InvalidInput."""
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
