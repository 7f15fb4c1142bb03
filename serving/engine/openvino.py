"""The openvino plan: Intel's runtime for processors, an optional extra. Never imports TensorFlow.

A model is compiled once for every number of rows: the runtime plans a new shape when it first sees one. Its processes
say nothing to anybody: OpenVINO's telemetry is on unless somebody turns it off, and a worker is no place for that.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts.signature import Signature
from serving.engine.base import Array, Tensors

# OpenVINO falls back to a stub of its own when this cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - after the line above, or it phones home

INDEX = "index.json"
runtime = openvino  # whoever needs it takes it from here, and so after that line
_DEVICE = "CPU"


class OpenvinoEngine:
    """Runs a directory that prepare wrote: models, and an index of which signature is which model.

    `bfloat16` computes with half the bits where the processor can. Raises OSError or ValueError when the directory is
    not whole and KeyError when a signature is missing.
    """

    plan = "openvino"
    pads = False

    def __init__(self, path: Path, signatures: tuple[Signature, ...], threads: int, *, bfloat16: bool = False) -> None:
        index = json.loads((path / INDEX).read_text())
        core = openvino.Core()
        # Without the hint a processor that has bfloat16 uses it for float32 models, too. Pinned threads of two workers
        # would share the same cores. One stream: one run at a time is all an engine is asked for.
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        requests: dict[str, Any] = {}
        self._runs: dict[str, _Run] = {}
        for signature in signatures:
            entry = index[signature.name]
            if (name := entry["model"]) not in requests:
                model = core.read_model(model=path / name, weights=path / entry["weights"])
                requests[name] = core.compile_model(model, _DEVICE, settings).create_infer_request()
            outputs = tuple((spec.name, int(entry["outputs"][spec.name])) for spec in signature.outputs)
            self._runs[signature.name] = _Run(requests[name], tuple(entry["inputs"]), outputs)

    def warm(self, bucket: int) -> None:
        """Nothing to reserve: a model is compiled for every number of rows."""

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        run = self._runs[signature]
        # Sharing the inputs spares a copy and most of the call's time (262 µs against 32 µs for a small model); the
        # outputs are copied, so that they stay the caller's.
        arrays = [np.ascontiguousarray(inputs[name]) for name in run.inputs]
        answer = run.request.infer(arrays, share_inputs=True, share_outputs=False)
        return {name: answer[place] for name, place in run.outputs}

    def close(self) -> None:
        self._runs.clear()


@dataclass(frozen=True)
class _Run:
    """A signature's request, the names of its inputs in the model's order, and its outputs with their places."""

    request: Any
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, int], ...]


def has_bfloat16() -> bool:
    """Whether this processor computes with bfloat16 itself."""
    return "BF16" in openvino.Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
