"""Everything of prepare that needs OpenVINO, an optional extra, as functions for a process of its own.

Importing this file imports no OpenVINO: whether it is installed is asked first, and its import costs half a second that
only the child has to wait for.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.signature import Signature
from serving.engine.base import Engine
from serving.prepare.measure import Measured, measure_threads
from serving.prepare.plans import OPENVINO_BFLOAT16, Candidate
from serving.prepare.samples import Case, Monotonic


def version() -> str | None:
    """The installed release, None when there is none."""
    if importlib.util.find_spec("openvino") is None:
        return None
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:  # a folder of that name is no installation
        return None


def why_no_bfloat16() -> str | None:
    """Why bfloat16 arithmetic cannot be tried here, as a sentence. Without the processor's own it is float32 again."""
    return None if _engine().has_bfloat16() else "this processor has no bfloat16 arithmetic"


def convert_openvino(saved_model: Path, target: Path, signatures: tuple[Signature, ...]) -> str | None:
    """As convert.convert, into the directory `target`."""
    _engine()  # the first import of OpenVINO, with its telemetry kept out
    answer: str | None = importlib.import_module("serving.prepare.convert_openvino").convert(
        saved_model, target, signatures
    )
    return answer


def measure_openvino(
    plan: Candidate,
    path: Path,
    signatures: tuple[Signature, ...],
    cases: Mapping[str, tuple[Case, ...]],
    monotonic: Monotonic,
) -> Measured:
    def opened(threads: int) -> Engine:
        engine: Engine = _engine().OpenvinoEngine(
            path, signatures, threads, bfloat16=plan.name == OPENVINO_BFLOAT16.name
        )
        return engine

    return measure_threads(opened, signatures, cases, monotonic, plan.tolerance)


def _engine() -> Any:
    return importlib.import_module("serving.engine.openvino")
