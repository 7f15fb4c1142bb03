"""TensorFlow Serving's REST bodies: predict in row and column form; v1_examples.py has classify and regress.

Reads and writes what `tensorflow_model_server` does, so that its clients work unchanged; where we are stricter
(ranges of small integers, text that is not UTF-8, repeated keys) it is to refuse rather than to guess.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from contracts.errors import InvalidInput, Unsupported
from contracts.limits import LIMITS
from contracts.signature import DEFAULT_SIGNATURE, Signature
from serving.codec import npy, v1_examples
from serving.codec.bulk import THRESHOLD, read_nested, split_v1
from serving.codec.columns import Column, is_b64, quoted, row_count
from serving.codec.jsontext import depth_exceeds, parse_exact, parse_tolerant, reject_repeated_keys
from serving.codec.plain import only_numbers, read_rows
from serving.codec.render import b64_objects, dump, dump_numbers, texts, with_tokens
from serving.engine.base import Array

_KEYS = ("signature_name", "instances", "inputs")
_EXAMPLES_KEYS = ("signature_name", "context", "examples")
_QUOTED_EXAMPLES_KEYS = tuple(f'"{key}"'.encode() for key in _EXAMPLES_KEYS)
_QUOTED_KEYS = tuple(f'"{key}"'.encode() for key in _KEYS)


class Predict(NamedTuple):
    """A predict request, ready to compute. `by_row` remembers the form, because the answer has the same."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    by_row: bool


class V1Codec:
    """Reads predict bodies against the signatures of one model."""

    def __init__(self, signatures: tuple[Signature, ...]) -> None:
        self._readers = {s.name: _SignatureReader(s) for s in signatures}
        self._default = self._readers.get(DEFAULT_SIGNATURE)

    def read(self, body: bytes) -> Predict:
        """Raises InvalidInput (400), or Unsupported (501) where TensorFlow Serving does."""
        if len(body) > THRESHOLD and (predict := self._read_bulk(body)) is not None:
            return predict
        value = parse_tolerant(body)
        if type(value) is not dict:
            raise InvalidInput('expected a JSON object with "instances" or "inputs"')
        reader = self._default
        if len(value) != 1:
            _check_keys(value)
        elif reader is not None and only_numbers(body, strings=1) and (predict := reader.read_plain(value)) is not None:
            return predict
        if body.count(b'"') != 2 * len(value):  # more text than the keys that were kept
            reject_repeated_keys(body, _QUOTED_KEYS)
        if "signature_name" in value or reader is None:
            reader = self._reader(value.get("signature_name", DEFAULT_SIGNATURE))
        if "instances" in value:
            inputs = reader.rows(value["instances"])
            return Predict(reader.signature, inputs, row_count(reader.signature, inputs), by_row=True)
        if "inputs" in value:
            inputs = reader.columns_of(value["inputs"])
            return Predict(reader.signature, inputs, row_count(reader.signature, inputs), by_row=False)
        raise InvalidInput('expected "instances" (rows) or "inputs" (columns) in the request, got neither')

    def read_npy(self, body: bytes) -> Predict:
        """A body that is the only input of the default signature as numpy saves it; its answer has the row form where
        rows are independent. Raises InvalidInput."""
        reader = self._reader(DEFAULT_SIGNATURE)
        if reader.only is None:
            raise InvalidInput(f"a .npy body is a single array, and this signature takes {reader.listed()}: send JSON")
        inputs = {reader.only.spec.name: npy.read(reader.only, body)}
        return Predict(reader.signature, inputs, row_count(reader.signature, inputs), by_row=reader.signature.batched)

    def read_examples(self, body: bytes, method: v1_examples.Method) -> v1_examples.Examples:
        """A classify or regress body. Raises InvalidInput, also for a signature of another method."""
        value = parse_exact(body)
        if type(value) is not dict or "examples" not in value:
            raise InvalidInput('expected a JSON object with "examples"')
        reject_repeated_keys(body, _QUOTED_EXAMPLES_KEYS)
        others = [item for key, item in value.items() if key not in _EXAMPLES_KEYS]
        if others and depth_exceeds(others, LIMITS.json_depth):
            raise InvalidInput(f"body is nested deeper than {LIMITS.json_depth}")
        reader = self._reader(value.get("signature_name", DEFAULT_SIGNATURE))
        return v1_examples.read(reader.signature, method, value)

    def _read_bulk(self, body: bytes) -> Predict | None:
        if (parts := split_v1(body)) is None:
            return None
        name, key, text = parts
        reader = self._reader(DEFAULT_SIGNATURE if name is None else name)
        if reader.only is None or (array := read_nested(text, reader.only)) is None:
            return None
        inputs = {reader.only.spec.name: array}
        return Predict(reader.signature, inputs, row_count(reader.signature, inputs), by_row=key == "instances")

    def _reader(self, name: Any) -> "_SignatureReader":
        if type(name) is not str:
            raise InvalidInput('"signature_name" must be text')
        if (reader := self._readers.get(name)) is None:
            known = ", ".join(quoted(n) for n in self._readers)
            raise InvalidInput(f"unknown signature {quoted(name)}: this model has {known}")
        return reader


class _SignatureReader:
    """The inputs of one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.columns = {spec.name: Column(spec, signature.batched) for spec in signature.inputs}
        self.names = self.columns.keys()
        self.only = next(iter(self.columns.values())) if len(self.columns) == 1 else None
        self._only_is_text = self.only is not None and self.only.spec.dtype == "string"

    def read_plain(self, value: dict[str, Any]) -> Predict | None:
        """The quick way for a body with one key and only numbers; None when the careful way has to look."""
        if self.only is None:
            return None
        by_row = "instances" in value
        array = read_rows(self.only, value["instances"] if by_row else value.get("inputs"))
        if array is None:
            return None
        rows = len(array) if self.signature.batched else 1
        return Predict(self.signature, {self.only.spec.name: array}, rows, by_row)

    def rows(self, instances: Any) -> dict[str, Array]:
        """Row form: one element per row."""
        if type(instances) is not list or not instances:
            raise InvalidInput('"instances" must be a list with at least one row')
        try:
            if self.only is not None and not self._is_named(instances[0]):
                return {self.only.spec.name: self.only.read(instances)}
            self._check_named_rows(instances)
            return {name: column.read([row[name] for row in instances]) for name, column in self.columns.items()}
        except Unsupported as error:  # TensorFlow Serving reports every fault of a row as a bad row
            raise InvalidInput(error.message) from None

    def columns_of(self, inputs: Any) -> dict[str, Array]:
        """Column form: one value per input."""
        if self.only is not None and not self._is_named(inputs):
            return {self.only.spec.name: self.only.read(inputs)}
        if type(inputs) is not dict:
            raise InvalidInput(f'"inputs" must be an object with {self.listed()}')
        missing = [name for name in self.names if name not in inputs]
        if missing:
            raise InvalidInput(f"input {quoted(missing[0])} is missing: expected {self.listed()}")
        extra = [value for name, value in inputs.items() if name not in self.names]
        if extra and depth_exceeds(extra, LIMITS.json_depth):
            raise InvalidInput(f"body is nested deeper than {LIMITS.json_depth}")
        return {name: column.read(inputs[name]) for name, column in self.columns.items()}

    def _is_named(self, value: Any) -> bool:
        """Whether a value is an object of inputs by name, and not the base64 object of a string."""
        return type(value) is dict and not (self._only_is_text and is_b64(value))

    def _check_named_rows(self, instances: list[Any]) -> None:
        for i, row in enumerate(instances):
            if type(row) is not dict or row.keys() != self.names:
                got = ", ".join(quoted(k) for k in row) or "none" if type(row) is dict else "no object"
                raise InvalidInput(f"row {i}: expected an object with exactly {self.listed()}, got {got}")

    def listed(self) -> str:
        return "input " + ", ".join(quoted(name) for name in self.names)


def _check_keys(value: dict[str, Any]) -> None:
    if "instances" in value and "inputs" in value:
        raise InvalidInput('expected either "instances" (rows) or "inputs" (columns), got both')
    others = [item for key, item in value.items() if key not in _KEYS]
    if others and depth_exceeds(others, LIMITS.json_depth):
        raise InvalidInput(f"body is nested deeper than {LIMITS.json_depth}")


def write(predict: Predict, outputs: Mapping[str, Array]) -> bytes:
    """The answer in the request's own form. NaN and infinities are bare tokens, as TensorFlow Serving writes them.
    Raises InvalidInput for outputs that JSON, or the row form, cannot express."""
    if not predict.by_row:
        if len(outputs) == 1:
            name, array = next(iter(outputs.items()))
            return b'{"outputs":' + _value(name, array) + b"}"
        members = [dump(name) + b":" + _value(name, array) for name, array in outputs.items()]
        return b'{"outputs":{' + b",".join(members) + b"}}"
    if len(outputs) == 1:
        name, array = next(iter(outputs.items()))
        if array.ndim == 0:
            raise _no_rows()
        return b'{"predictions":' + _value(name, array) + b"}"
    rows = _common_rows(outputs)
    named = [(dump(name) + b":", name, array) for name, array in outputs.items()]
    lines = [b"{" + b",".join([key + _value(name, a[i, ...]) for key, name, a in named]) + b"}" for i in range(rows)]
    return b'{"predictions":[' + b",".join(lines) + b"]}"


def write_npy(outputs: Mapping[str, Array]) -> bytes:
    """The only output as numpy saves it. Raises InvalidInput when there are several, or none of numbers."""
    if len(outputs) != 1:
        listed = ", ".join(quoted(name) for name in outputs)
        raise InvalidInput(f"a .npy answer is a single array, and this signature gives {listed}: ask for JSON")
    name, array = next(iter(outputs.items()))
    return npy.write(name, array)


def _common_rows(outputs: Mapping[str, Array]) -> int:
    rows = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if None in rows or len(rows) != 1:
        raise _no_rows()
    return int(next(iter(rows)) or 0)


def _no_rows() -> InvalidInput:
    return InvalidInput('the outputs of this signature have no common rows: ask in column form ("inputs")')


def _value(name: str, array: Array) -> bytes:
    if array.dtype.kind == "O":
        return dump(b64_objects(array) if name.endswith("_bytes") else texts(name, array))
    text, holds_null = dump_numbers(name, array)
    return with_tokens(text, array) if holds_null else text
