"""Everything of prepare that needs TensorFlow, behind one value. Importing this file imports TensorFlow.

Steps that come before, copying and scanning, must not wait for that.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ai_edge_litert
import tensorflow as tf

from contracts.signature import Signature
from serving.engine.base import Engine
from serving.engine.tensorflow import TensorflowEngine
from serving.prepare import convert, keras_export
from serving.prepare.isolated import Forked, Isolation
from serving.prepare.runtime_litert import THREADS, measure_litert
from serving.prepare.samples import Case, Monotonic


class TensorflowRuntime:
    """ports.Runtime with the worker's own engines. What may crash runs in `isolation`."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self.versions: Mapping[str, str] = {
            "tensorflow": tf.__version__,
            "keras": tf.keras.__version__,
            "litert": ai_edge_litert.__version__,
        }

    def export_keras(self, keras_file: Path, target: Path) -> None:
        keras_export.export(keras_file, target)

    def reference(self, saved_model: Path, signatures: tuple[Signature, ...]) -> Engine:
        return TensorflowEngine(saved_model, signatures, THREADS)

    def start_conversion(self, saved_model: Path, target: Path, signatures: tuple[Signature, ...]) -> None:
        self._isolation.submit(convert.convert, saved_model, target, tuple(s.name for s in signatures))

    def start_measuring(
        self,
        litert_file: Path,
        signatures: tuple[Signature, ...],
        cases: Mapping[str, tuple[Case, ...]],
        monotonic: Monotonic,
    ) -> None:
        self._isolation.submit(measure_litert, litert_file, signatures, cases, monotonic)

    def result(self, seconds: float) -> Any:
        return self._isolation.result(seconds)

    def close(self) -> None:
        self._isolation.close()


def open_runtime() -> TensorflowRuntime:
    """Forks before anything of TensorFlow runs here: see Forked."""
    return TensorflowRuntime(Forked())
