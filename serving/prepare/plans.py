"""The plans that are tried beside TensorFlow itself: names, places in the package, what they give up. A table."""

from collections.abc import Iterable
from dataclasses import dataclass

from contracts.signature import Signature
from serving.prepare.compare import FULL, REDUCED, Tolerance

TENSORFLOW_PATH = "plans/tensorflow"
LITERT_PATH = "plans/litert/model.tflite"
OPENVINO_PATH = "plans/openvino"


@dataclass(frozen=True)
class Candidate:
    """One way to run a model. `runtime` names the process that converts and measures it; `precision` is what is given
    up against float32, None for nothing. Plans with the same path share files."""

    name: str
    runtime: str
    path: str
    precision: str | None = None

    @property
    def folder(self) -> str:
        """The directory that is this plan's alone."""
        return "/".join(self.path.split("/")[:2])

    @property
    def tolerance(self) -> Tolerance:
        return FULL if self.precision is None else REDUCED


LITERT = Candidate("litert", "litert", LITERT_PATH)
OPENVINO = Candidate("openvino", "openvino", OPENVINO_PATH)
FULL_PRECISION = (LITERT, OPENVINO)

# Only for who asks: `teal register --allow-reduced-precision`.
LITERT_FLOAT16 = Candidate("litert-float16", "litert", "plans/litert-float16/model.tflite", "16-bit weights")
LITERT_INT8 = Candidate("litert-int8", "litert", "plans/litert-int8/model.tflite", "8-bit weights")
OPENVINO_BFLOAT16 = Candidate("openvino-bfloat16", "openvino", OPENVINO_PATH, "bfloat16 arithmetic")
REDUCED_PRECISION = (LITERT_FLOAT16, LITERT_INT8, OPENVINO_BFLOAT16)

# OpenVINO 2026.4's processor plugin computes 64-bit integers in 32 bits and clips what does not fit (measured:
# 2**40 came back as 2**31 - 1). Samples are small numbers and would not show it, so nobody may send it any.
_NARROWED = frozenset({"int64", "uint64", "uint32"})
_UNKNOWN = frozenset({"string", "complex64", "complex128"})


def openvino_refuses(signatures: Iterable[Signature]) -> str | None:
    """Why a model with these tensors is not for OpenVINO, as a sentence; None when it may be tried."""
    for signature in signatures:
        for spec in signature.inputs:
            if spec.dtype in _NARROWED:
                return f'OpenVINO computes {spec.dtype} in 32 bits, and input "{spec.name}" may hold more'
        for spec in (*signature.inputs, *signature.outputs):
            if spec.dtype in _UNKNOWN:
                return f'OpenVINO does not compute {spec.dtype}, which "{spec.name}" is'
    return None
