"""Models are made once per session, and TensorFlow is imported only by tests marked `tensorflow`."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contracts.clock import SystemClock
from contracts.package import Manifest, read_manifest
from contracts.prepare import PrepareSpec
from serving.prepare.finish import Prepared
from serving.prepare.isolated import Inline
from serving.prepare.steps import prepare

MakeModel = Callable[[str], Path]


@pytest.fixture(scope="session")
def zoo() -> Any:
    return importlib.import_module("tests.serving.prepare.zoo")


@pytest.fixture(scope="session")
def model(zoo: Any, tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """The directory of a model of the zoo, by the name of its function. Never change what is in it."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("zoo") / name
            getattr(zoo, name)(made[name])
        return made[name]

    return make


@dataclass
class Preparer:
    """Prepares in this process, without isolation, and keeps what was told."""

    root: Path
    told: list[tuple[str, str]] = field(default_factory=list)
    runtimes: int = 0

    @property
    def output(self) -> Path:
        return self.root / "package"

    def __call__(
        self,
        source: Path | str,
        samples: Path | None = None,
        lineage: Path | None = None,
        *,
        reduced_precision: bool = False,
    ) -> Manifest:
        given = (str(path) if path else None for path in (samples, lineage))
        self.result: Prepared = prepare(
            PrepareSpec(str(source), str(self.output), *given, reduced_precision=reduced_precision),
            lambda stage, detail: self.told.append((stage, detail)),
            SystemClock(),
            self._open,
            self._open_litert,
        )
        return read_manifest(self.output)

    def _open(self) -> Any:
        self.runtimes += 1
        return importlib.import_module("serving.prepare.runtime").TensorflowRuntime(Inline)

    def _open_litert(self) -> Any:
        return importlib.import_module("serving.prepare.runtime_litert").IsolatedLitert(Inline())


@pytest.fixture
def prepared(tmp_path: Path) -> Preparer:
    return Preparer(tmp_path)
