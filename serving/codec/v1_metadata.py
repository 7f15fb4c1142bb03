"""TensorFlow Serving's answers about a model: its status and its signatures, in protobuf's JSON form."""

from collections.abc import Sequence
from typing import Any

from contracts.signature import Signature, TensorSpec

_DT = {
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "int32": "DT_INT32", "uint8": "DT_UINT8", "int16": "DT_INT16",
    "int8": "DT_INT8", "string": "DT_STRING", "complex64": "DT_COMPLEX64", "int64": "DT_INT64", "bool": "DT_BOOL",
    "bfloat16": "DT_BFLOAT16", "uint16": "DT_UINT16", "complex128": "DT_COMPLEX128", "float16": "DT_HALF",
    "uint32": "DT_UINT32", "uint64": "DT_UINT64",
}  # fmt: skip


def status(version: int, state: str) -> dict[str, Any]:
    """`state` is one of START, LOADING, AVAILABLE, UNLOADING, END."""
    entry = {"version": str(version), "state": state, "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [entry]}


def metadata(model: str, version: int, signatures: Sequence[Signature]) -> dict[str, Any]:
    """The doubled `signature_def` is TensorFlow Serving's own: a message of that name inside a field of that name."""
    return {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {s.name: _signature(s) for s in signatures}}},
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(-1 if d is None else d), "name": ""} for d in spec.shape or ()]
    return {
        "dtype": _DT[spec.dtype],
        "tensor_shape": {"dim": dims, "unknown_rank": spec.shape is None},
        "name": f"{spec.name}:0",
    }
