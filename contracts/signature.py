"""What a model takes and gives: named tensors with dtype and shape, as the package and the worker know them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Canonical dtype names are TensorFlow's own (`tf.dtypes.DType.name`); codecs translate to their protocol's words.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "string", "complex64", "complex128",
)  # fmt: skip

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor. `shape` counts the row dimension where there is one; None is a dimension of any size;
    `shape` None altogether is an unknown rank."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """One callable of a model. `batched` is true when every input and output has a free first dimension
    that counts rows, and prepare measured that rows do not influence each other."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    method_name: str = "tensorflow/serving/predict"

    def input(self, name: str) -> TensorSpec | None:
        return next((spec for spec in self.inputs if spec.name == name), None)


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}


def spec_from_json(value: Mapping[str, Any]) -> TensorSpec:
    shape = value["shape"]
    return TensorSpec(value["name"], value["dtype"], None if shape is None else tuple(shape))


def signature_to_json(signature: Signature) -> dict[str, Any]:
    return {
        "name": signature.name,
        "inputs": [spec_to_json(s) for s in signature.inputs],
        "outputs": [spec_to_json(s) for s in signature.outputs],
        "batched": signature.batched,
        "method_name": signature.method_name,
    }


def signature_from_json(value: Mapping[str, Any]) -> Signature:
    return Signature(
        name=value["name"],
        inputs=tuple(spec_from_json(s) for s in value["inputs"]),
        outputs=tuple(spec_from_json(s) for s in value["outputs"]),
        batched=value["batched"],
        method_name=value["method_name"],
    )
