"""What prepare's steps need from TensorFlow, as small as it can be said, so that they import without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from contracts.signature import Signature
from serving.engine.base import Engine
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
        """As Runtime's."""

    def result(self, seconds: float) -> Any: ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """TensorFlow in this process and, apart from it, TensorFlow Lite. Close it at the end."""

    versions: Mapping[str, str]

    def export_keras(self, keras_file: Path, target: Path) -> None:
        """Write the SavedModel of a scanned .keras file. Raises InvalidInput when Keras does not load it."""

    def reference(self, saved_model: Path, signatures: tuple[Signature, ...]) -> Engine:
        """Load the model with TensorFlow; whatever that raises rises."""

    def start_conversion(self, saved_model: Path, target: Path, signatures: tuple[Signature, ...]) -> None:
        """Begin converting to TensorFlow Lite. Its `result` is None when `target` is written, else why not."""

    def start_measuring(
        self,
        litert_file: Path,
        signatures: tuple[Signature, ...],
        cases: Mapping[str, tuple[Case, ...]],
        monotonic: Monotonic,
    ) -> None:
        """Begin checking and timing the converted model. Its `result` is a measure.Measured."""

    def result(self, seconds: float) -> Any:
        """What was begun last came to this. Raises isolated.DiedOrLate, RuntimeError, or Unavailable."""

    def close(self) -> None: ...
