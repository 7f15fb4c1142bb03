"""What both halves of the Open Inference Protocol share: its words for dtypes, and an infer request as a value."""

from collections.abc import Mapping
from typing import NamedTuple

from contracts.signature import DEFAULT_SIGNATURE, Signature
from serving.engine.base import Array

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
"""TensorFlow's dtype names → the protocol's words. Complex numbers have none."""

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; binary tensors follow."""


class Infer(NamedTuple):
    """An infer request, ready to compute. `wanted` is None when the caller wants every output; `binary` are the outputs
    to be answered as binary data; `timeout` is the caller's own, in seconds, None for none; `priority` is 0 for none
    and otherwise the more urgent the smaller, from 1 on."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    id: str | None
    wanted: tuple[str, ...] | None
    binary: frozenset[str] = frozenset()
    timeout: float | None = None
    priority: int = 0


def default_signature(signatures: tuple[Signature, ...]) -> Signature:
    """The protocol knows one signature per model: `serving_default`, or the first where none has that name."""
    return next((s for s in signatures if s.name == DEFAULT_SIGNATURE), signatures[0])
