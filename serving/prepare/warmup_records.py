"""The warm-up file of a TensorFlow Serving model, `assets.extra/tf_serving_warmup_requests`, as sample inputs.

Every record is checked against the signature it calls, as TensorFlow Serving runs every record before it takes the
model; how many of them are kept is bounded, what is done with them is decided elsewhere.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from contracts.errors import InvalidInput, TooLarge
from contracts.signature import DEFAULT_SIGNATURE, Signature
from serving.codec.messages import parse
from serving.codec.tensorproto import to_array
from serving.codec.v1_examples import Method
from serving.codec.v1_proto import PREDICT_REQUEST
from serving.codec.v1_proto_examples import MULTI_REQUEST, REQUESTS, serialized
from serving.engine.base import NUMPY_DTYPES, Array
from serving.prepare.given import misfit
from serving.prepare.protos import Messages, message_class
from serving.prepare.rows import fixed_dimension
from serving.prepare.samples import MAX_BYTES, Given, size_of
from serving.prepare.tfrecord import read_records

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving's own limit
MAX_SHAPES = 3  # different shapes kept by signature: sequences of several lengths
_WHAT = f"warm-up file {FILE}"
_MOST_BYTES = MAX_BYTES // MAX_SHAPES  # of a call that cannot be cut into rows
_MOST_OF_A_TENSOR = 256 * 1024 * 1024  # bytes: a few can promise any shape
_ROWS_KEPT = 1024  # of one shape; samples are spread over them

# TensorFlow Serving's prediction_log.proto: what was called, and the call's own request as the bytes it is.
_MESSAGES: Messages = {
    "PredictionLog": {
        "classify": (2, "Call", False),
        "regress": (3, "Call", False),
        "multi_inference": (4, "Call", False),
        "session_run": (5, "Empty", False),
        "predict": (6, "Call", False),
        "predict_streamed": (7, "Empty", False),
    },
    "Empty": {},
    "Call": {"request": (1, "bytes", False)},
}
PREDICTION_LOG = message_class("teal.warmup", _MESSAGES, "PredictionLog")

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class WarmUp:
    """What the file gave: samples by signature, and a sentence for the report."""

    given: Mapping[str, Given]
    note: str


@dataclass
class _Kept:
    """Calls of one signature and one set of shapes."""

    calls: list[Inputs] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0


def read_warm_up(saved_model: Path, signatures: tuple[Signature, ...]) -> WarmUp | None:
    """What the model's warm-up file holds, None when there is none. Raise InvalidInput naming the record, and the
    tensor where it is one, that does not fit."""
    path = saved_model / FILE
    if not path.is_file():
        return None
    kept: dict[str, dict[object, _Kept]] = {}
    left_out: Counter[str] = Counter()
    number = -1
    for number, record in enumerate(read_records(path, _WHAT)):
        if number >= MAX_RECORDS:
            raise InvalidInput(f"{_WHAT}: expected at most {MAX_RECORDS} records, got more: write fewer")
        log = _parse(record, number)
        if log.HasField("session_run") or log.HasField("predict_streamed"):
            left_out["calls of the session or of streams, which are not served"] += 1
            continue
        for signature, inputs in _calls(log, number, signatures):
            why_not = _not_kept(signature, inputs)
            if why_not is not None:
                left_out[why_not] += 1
            else:
                _keep(kept.setdefault(signature.name, {}), signature, inputs)
    given = {name: Given(_joined(shapes, _named(signatures, name)), "warm-up records") for name, shapes in kept.items()}
    return WarmUp(given, _note(number + 1, given, left_out))


def _parse(record: bytes, number: int) -> Any:
    log = PREDICTION_LOG()
    try:
        log.ParseFromString(record)
    except DecodeError:
        raise _refusal(number, "expected a PredictionLog, got bytes that do not parse as one") from None
    if not log.ListFields():
        raise _refusal(number, "expected a PredictionLog of a request, got one without any")
    return log


def _refusal(number: int, words: str) -> InvalidInput:
    return InvalidInput(f"{_WHAT}: record {number}: {words}: write the file again for this model, or remove it")


def _calls(log: Any, number: int, signatures: tuple[Signature, ...]) -> Iterator[tuple[Signature, Inputs]]:
    """The calls of one record, each with inputs that fit its signature. Raise InvalidInput when one does not."""
    if log.HasField("predict"):
        predict = _request(PREDICT_REQUEST, log.predict.request, number)
        signature = _called(predict.model_spec, number, signatures)
        yield signature, _checked(signature, predict.inputs, number)
    for method in Method:
        if log.HasField(method.value):
            request = _request(REQUESTS[method], getattr(log, method.value).request, number)
            yield _with_examples(_called(request.model_spec, number, signatures), request.input, number)
    multi = _request(MULTI_REQUEST, log.multi_inference.request, number)
    for task in multi.tasks:
        yield _with_examples(_called(task.model_spec, number, signatures), multi.input, number)


def _request(kind: Any, data: bytes, number: int) -> Any:
    try:
        return parse(kind, data)
    except InvalidInput as error:
        raise _refusal(number, error.message) from None


def _called(model: Any, number: int, signatures: tuple[Signature, ...]) -> Signature:
    name = model.signature_name or DEFAULT_SIGNATURE
    signature = next((s for s in signatures if s.name == name), None)
    if signature is None:
        has = ", ".join(f'"{s.name}"' for s in signatures)
        raise _refusal(number, f'calls signature "{name}", the model has {has}')
    return signature


def _named(signatures: tuple[Signature, ...], name: str) -> Signature:
    return next(s for s in signatures if s.name == name)


def _checked(signature: Signature, tensors: Mapping[str, Any], number: int) -> Inputs:
    wanted = {spec.name for spec in signature.inputs}
    where = f'signature "{signature.name}"'
    if odd := sorted(wanted ^ tensors.keys()):
        words = "is missing" if odd[0] in wanted else "is none of its inputs"
        raise _refusal(number, f'{where}: input "{odd[0]}" {words}')
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        if spec.dtype not in NUMPY_DTYPES:
            continue  # bfloat16: the call is left out as a whole, see _not_kept
        try:
            inputs[spec.name] = to_array(tensors[spec.name], _MOST_OF_A_TENSOR)
        except ValueError as error:
            raise _refusal(number, f'{where}: input "{spec.name}" {error}') from None
        if (wrong := misfit(spec, inputs[spec.name])) is not None:
            raise _refusal(number, f"{where}: {wrong}")
    rows = {
        s.name: len(inputs[s.name]) for s in signature.inputs if s.shape and s.shape[0] is None and s.name in inputs
    }
    if len(set(rows.values())) > 1:
        sizes = ", ".join(f'"{name}" has {count}' for name, count in rows.items())
        raise _refusal(number, f"{where}: inputs differ in rows: {sizes}")
    return inputs


def _with_examples(signature: Signature, given: Any, number: int) -> tuple[Signature, Inputs]:
    """A call with tf.Examples."""
    specs = signature.inputs
    if len(specs) != 1 or specs[0].dtype != "string":
        raise _refusal(number, f'sends tf.Examples to signature "{signature.name}", which does not take one text input')
    try:
        examples = serialized(given)
    except TooLarge as error:
        raise _refusal(number, error.message) from None
    texts = np.empty(len(examples), object)
    texts[:] = examples
    if (words := misfit(specs[0], texts)) is not None:
        raise _refusal(number, f'signature "{signature.name}": {words}')
    return signature, {specs[0].name: texts}


def _not_kept(signature: Signature, inputs: Inputs) -> str | None:
    if len(inputs) < len(signature.inputs):
        return "calls with dtypes that samples cannot hold"
    if not inputs:
        return "calls without inputs"
    if fixed_dimension(signature) is not None:
        return f"calls over {_MOST_BYTES} bytes" if size_of(inputs) > _MOST_BYTES else None
    rows = {len(array) if array.ndim else 0 for array in inputs.values()}
    return None if len(rows) == 1 and 0 not in rows else "calls whose inputs do not have the same number of rows"


def _keep(shapes: dict[object, _Kept], signature: Signature, inputs: Inputs) -> None:
    """Calls of equal shapes, rows aside, stay together. Later ones than the limits hold are only checked."""
    rowed = fixed_dimension(signature) is None
    key = tuple(array.shape[1:] if rowed else array.shape for array in inputs.values())
    if key not in shapes and len(shapes) >= MAX_SHAPES:
        return
    group = shapes.setdefault(key, _Kept())
    rows = len(next(iter(inputs.values()))) if rowed else 1
    size = size_of(inputs)
    if group.calls and (not rowed or group.rows + rows > _ROWS_KEPT or group.bytes + size > 4 * MAX_BYTES):
        return
    group.calls.append(inputs)
    group.rows += rows
    group.bytes += size


def _joined(shapes: Mapping[object, _Kept], signature: Signature) -> tuple[Inputs, ...]:
    """One call by shape, the one with most rows first: the first is what the package keeps for its own warm-up."""
    groups = sorted(shapes.values(), key=lambda group: -group.rows)
    return tuple(
        {spec.name: np.concatenate([call[spec.name] for call in group.calls]) for spec in signature.inputs}
        if len(group.calls) > 1
        else group.calls[0]
        for group in groups
    )


def _note(records: int, given: Mapping[str, Given], left_out: Counter[str]) -> str:
    used = ", ".join(f'"{name}"' for name in given)
    sentence = f"{records} warm-up records of the source fit" + (f" and are the samples of {used}" if used else "")
    return sentence + "".join(f"; left out: {count} {why}" for why, count in left_out.items())
