"""Bodies with tensors as clients of the Open Inference Protocol send them: JSON, binary, gRPC. Written from the
protocol itself, so that no client library's own cost is measured.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np

from serving.codec.example import field, varint
from serving.engine.base import Array

DATATYPES = {"float32": "FP32", "int32": "INT32"}
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Body:
    """What to POST, and the headers that say what it is."""

    content: bytes
    headers: dict[str, str]


def v1_json(rows: Array) -> Body:
    """TensorFlow Serving's row form."""
    return Body(json.dumps({"instances": rows.tolist()}).encode(), {"Content-Type": "application/json"})


def v2_json(name: str, rows: Array) -> Body:
    tensor = {**_described(name, rows), "data": rows.ravel().tolist()}
    return Body(json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})


def v2_binary(name: str, rows: Array) -> Body:
    """The binary extension both ways: a JSON head, then the tensor's little-endian bytes."""
    raw = np.ascontiguousarray(rows).tobytes()
    head = {
        "inputs": [{**_described(name, rows), "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return Body(text + raw, headers)


def grpc_infer(model: str, name: str, rows: Array) -> bytes:
    """An inference.ModelInferRequest with raw contents, without gRPC's frame."""
    tensor = (
        field(1, name.encode())
        + field(2, DATATYPES[rows.dtype.name].encode())
        + field(3, b"".join(varint(size) for size in rows.shape))
    )
    return field(1, model.encode()) + field(5, tensor) + field(7, np.ascontiguousarray(rows).tobytes())


def grpc_frame(message: bytes) -> bytes:
    """One message on the wire: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def _described(name: str, rows: Array) -> dict[str, object]:
    return {"name": name, "shape": list(rows.shape), "datatype": DATATYPES[rows.dtype.name]}
