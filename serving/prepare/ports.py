"""What prepare's steps need from TensorFlow and its kin, as small as it can be said, so that they import without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from contracts.signature import Signature
from serving.engine.base import Engine
from serving.prepare.plans import Candidate
from serving.prepare.samples import Case, Monotonic


class LitertRuntime(Protocol):
    """TensorFlow Lite alone, apart from this process. What the file does to that process is raised as
    isolated.DiedOrLate, what it refuses as RuntimeError. Close it at the end."""

    versions: Mapping[str, str]

    def signatures(self, litert_file: Path) -> tuple[Signature, ...]:
        """What the file says it takes and gives. Raises Unsupported for a dtype that cannot be served."""

    def reference(self, litert_file: Path, signatures: tuple[Signature, ...]) -> Engine:
        """The file loaded, at whatever shapes come."""

    def start_measuring(
        self,
        litert_file: Path,
        signatures: tuple[Signature, ...],
        cases: Mapping[str, tuple[Case, ...]],
        monotonic: Monotonic,
    ) -> None:
        """Begin checking and timing the file. Its `result` is a measure.Measured."""

    def result(self, seconds: float) -> Any: ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """TensorFlow in this process and, apart from it, the runtimes of candidates, each in a process of its own: what
    kills one leaves the others. Close it at the end."""

    versions: Mapping[str, str]
    threads: int
    """Threads inside one run of the reference."""

    def export_keras(self, keras_file: Path, target: Path) -> None:
        """Write the SavedModel of a scanned .keras file. Raises InvalidInput when Keras does not load it."""

    def reference(self, saved_model: Path, signatures: tuple[Signature, ...]) -> Engine:
        """Load the model with TensorFlow; whatever that raises rises."""

    def lacks(self, runtime: str) -> str | None:
        """Why nothing can be tried with a candidate's runtime, as a sentence; None when it is installed."""

    def start_conversion(
        self, plan: Candidate, saved_model: Path, target: Path, signatures: tuple[Signature, ...]
    ) -> None:
        """Begin converting. Its `result` is None when `target` is written, else why not, as a sentence."""

    def start_measuring(
        self,
        plan: Candidate,
        converted: Path,
        signatures: tuple[Signature, ...],
        cases: Mapping[str, tuple[Case, ...]],
        monotonic: Monotonic,
    ) -> None:
        """Begin checking and timing a converted model. Its `result` is a measure.Measured."""

    def result(self, runtime: str, seconds: float) -> Any:
        """What was begun last in this runtime came to this. Raises isolated.DiedOrLate, RuntimeError, Unavailable."""

    def close(self) -> None: ...
