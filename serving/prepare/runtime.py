"""Everything of prepare that needs TensorFlow, behind one value. Importing this file imports TensorFlow.

Steps that come before, copying and scanning, must not wait for that.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ai_edge_litert
import tensorflow as tf

from contracts.machine import cores
from contracts.signature import Signature
from serving.engine.base import Engine
from serving.engine.tensorflow import TensorflowEngine
from serving.prepare import convert, keras_export, runtime_openvino
from serving.prepare.isolated import Forked, Isolation
from serving.prepare.plans import LITERT_FLOAT16, LITERT_INT8, OPENVINO_BFLOAT16, Candidate
from serving.prepare.runtime_litert import measure_litert
from serving.prepare.samples import Case, Monotonic

_WEIGHTS = {LITERT_FLOAT16.name: convert.Weights.FLOAT16, LITERT_INT8.name: convert.Weights.INT8}


class TensorflowRuntime:
    """ports.Runtime with the worker's own engines. What may crash runs in an isolation of its own."""

    def __init__(self, isolate: Callable[[], Isolation]) -> None:
        self._isolations = {"litert": isolate()}
        self.threads = cores()
        self.versions: Mapping[str, str] = {
            "tensorflow": tf.__version__,
            "keras": tf.keras.__version__,
            "litert": ai_edge_litert.__version__,
        }
        if (openvino := runtime_openvino.version()) is not None:
            self._isolations["openvino"] = isolate()
            self.versions = {**self.versions, "openvino": openvino}

    def export_keras(self, keras_file: Path, target: Path) -> None:
        keras_export.export(keras_file, target)

    def reference(self, saved_model: Path, signatures: tuple[Signature, ...]) -> Engine:
        return TensorflowEngine(saved_model, signatures, self.threads)

    def lacks(self, runtime: str) -> str | None:
        if runtime in self._isolations:
            return None
        return f"{runtime} is not installed (pip install 'teal[{runtime}]')"

    def start_conversion(
        self, plan: Candidate, saved_model: Path, target: Path, signatures: tuple[Signature, ...]
    ) -> None:
        names = tuple(s.name for s in signatures)
        if plan is OPENVINO_BFLOAT16:
            self._isolations["openvino"].submit(runtime_openvino.why_no_bfloat16)
        elif plan.runtime == "openvino":
            self._isolations["openvino"].submit(runtime_openvino.convert_openvino, saved_model, target, signatures)
        else:
            weights = _WEIGHTS.get(plan.name, convert.Weights.FLOAT32)
            self._isolations["litert"].submit(convert.convert, saved_model, target, names, weights)

    def start_measuring(
        self,
        plan: Candidate,
        converted: Path,
        signatures: tuple[Signature, ...],
        cases: Mapping[str, tuple[Case, ...]],
        monotonic: Monotonic,
    ) -> None:
        isolation = self._isolations[plan.runtime]
        if plan.runtime == "openvino":
            isolation.submit(runtime_openvino.measure_openvino, plan, converted, signatures, cases, monotonic)
        else:
            isolation.submit(measure_litert, converted, signatures, cases, monotonic, plan.tolerance)

    def result(self, runtime: str, seconds: float) -> Any:
        return self._isolations[runtime].result(seconds)

    def close(self) -> None:
        for isolation in self._isolations.values():
            isolation.close()


def open_runtime() -> TensorflowRuntime:
    """Forks before anything of TensorFlow runs here: see Forked."""
    return TensorflowRuntime(Forked)
