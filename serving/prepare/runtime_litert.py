"""Everything of prepare that needs TensorFlow Lite alone, behind one value. Never imports TensorFlow.

A stranger's .tflite file can end the process that reads it, so all of it happens in a child.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from contracts.errors import Unsupported
from contracts.machine import cores
from contracts.signature import DEFAULT_SIGNATURE, DTYPES, Signature, TensorSpec
from serving.engine.base import Array, Engine, Tensors
from serving.engine.litert import LitertEngine
from serving.engine.opening import open_litert
from serving.engine.tflite import entry, entry_names
from serving.prepare.compare import FULL, Tolerance
from serving.prepare.isolated import Forked, Isolation
from serving.prepare.measure import BATCH_SIZES, Measured, measure_threads
from serving.prepare.samples import Case, Monotonic

LONGEST_CALL = 120.0  # seconds


class IsolatedLitert:
    """ports.LitertRuntime with the worker's own engine, in `isolation`."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self.versions: Mapping[str, str] = {"litert": ai_edge_litert.__version__}

    def signatures(self, litert_file: Path) -> tuple[Signature, ...]:
        self._isolation.submit(_describe, litert_file)
        found = []
        for name, inputs, outputs in self._isolation.result(LONGEST_CALL):
            found.append(Signature(name, _specs(name, "input", inputs), _specs(name, "output", outputs), batched=False))
        return tuple(sorted(found, key=lambda s: (s.name != DEFAULT_SIGNATURE, s.name)))

    def reference(self, litert_file: Path, signatures: tuple[Signature, ...]) -> Engine:
        self._isolation.submit(_open, litert_file, signatures)
        self._isolation.result(LONGEST_CALL)
        return _Remote(self._isolation)

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


class _Remote:
    """The engine that was opened in the child, one call after the other."""

    plan = "litert"
    pads = False

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def warm(self, bucket: int) -> None:
        """Nothing to reserve: the reference takes every call as it comes."""

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        self._isolation.submit(_run, signature, dict(inputs))
        answer: dict[str, Array] = self._isolation.result(LONGEST_CALL)
        return answer

    def close(self) -> None:
        self._isolation.submit(_opened.clear)
        self._isolation.result(LONGEST_CALL)


def open_runtime() -> IsolatedLitert:
    """Forks before anything of TensorFlow Lite runs here."""
    return IsolatedLitert(Forked())


def measure_litert(
    path: Path,
    signatures: tuple[Signature, ...],
    cases: Mapping[str, tuple[Case, ...]],
    monotonic: Monotonic,
    tolerance: Tolerance = FULL,
) -> Measured:
    return measure_threads(
        lambda threads: open_litert(path, signatures, BATCH_SIZES, threads), signatures, cases, monotonic, tolerance
    )


# In the child. The engine stays there between calls: it cannot travel.
_opened: list[LitertEngine] = []

_Tensor = tuple[str, str, tuple[int, ...]]  # name, dtype, shape with -1 for what is open


def _open(path: Path, signatures: tuple[Signature, ...]) -> None:
    _opened[:] = [LitertEngine(path, signatures, (1,), cores())]


def _run(signature: str, inputs: Tensors) -> dict[str, Array]:
    return _opened[0].run(signature, inputs)


def _describe(path: Path) -> list[tuple[str, list[_Tensor], list[_Tensor]]]:
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    entries = {name: entry(interpreter, name) for name in entry_names(interpreter)}
    return [(name, _tensors(e.inputs), _tensors(e.outputs)) for name, e in entries.items()]


def _tensors(details: Mapping[str, Any]) -> list[_Tensor]:
    return [
        (name, np.dtype(found["dtype"]).name, tuple(int(size) for size in found["shape_signature"]))
        for name, found in sorted(details.items())
    ]


def _specs(signature: str, role: str, tensors: list[_Tensor]) -> tuple[TensorSpec, ...]:
    specs = []
    for name, dtype, sizes in tensors:
        kind = "string" if dtype.startswith(("bytes", "str", "object")) else dtype
        if kind not in DTYPES:
            raise Unsupported(f'signature "{signature}": {role} "{name}" has dtype {dtype}, which cannot be sent')
        # An output without dimensions is mostly one whose shape is known only when it was computed.
        shape = None if role == "output" and not sizes else tuple(None if d < 0 else d for d in sizes)
        specs.append(TensorSpec(name, kind, shape))
    return tuple(specs)
