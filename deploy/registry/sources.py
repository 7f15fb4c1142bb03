"""What a user named to register: checked before anything starts, then told to prepare with what a fetch found out."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from contracts.errors import InvalidInput, NotFound, TealError
from contracts.fetch import KINDS, is_elsewhere
from contracts.package import Lineage, lineage_from_json, lineage_to_json
from contracts.prepare import PrepareSpec
from contracts.preprocessing import parse
from deploy.registry.asked import Asked
from deploy.registry.preparation import Fetched
from deploy.registry.staging import Staging
from deploy.registry.step import Progress


class Sources:
    """`source` is what is kept as the version's source: the address, or a path that is still right when it is read from
    another directory."""

    def __init__(self, asked: Asked) -> None:
        text = str(asked.source)
        if "://" in text and not text.startswith("file://") and not is_elsewhere(text):
            raise InvalidInput(f"source {text[:200]!r} is not supported: expected {KINDS}")
        self.source = text if is_elsewhere(text) else str(_absolute(Path(text.removeprefix("file://"))))
        self._samples, self._lineage, self._preprocessing = (
            None if file is None else _absolute(file) for file in (asked.samples, asked.lineage, asked.preprocessing)
        )
        self._reduced_precision = asked.reduced_precision
        self._known = Lineage()

    def check(self) -> None:
        """Raise NotFound for a file that is not there, InvalidInput for a lineage or a preprocessing that cannot be
        kept."""
        here = None if is_elsewhere(self.source) else Path(self.source)
        files = {"samples": self._samples, "lineage": self._lineage, "preprocessing": self._preprocessing}
        for what, path in {"source": here, **files}.items():
            if path is not None and not path.exists():
                raise NotFound(f"{what} {path} does not exist")
        if self._preprocessing is not None:
            parse(self._preprocessing.read_bytes(), self._preprocessing.name)
        if self._lineage is not None:
            try:
                self._known = lineage_from_json(json.loads(self._lineage.read_bytes()))
            except ValueError as error:
                raise InvalidInput(f"lineage {self._lineage} is not readable JSON: {error}") from error

    def spec(self, place: Staging, fetched: Fetched | None) -> PrepareSpec:
        lineage = self._lineage
        if fetched is not None:
            lineage = place.root / "lineage.json"
            lineage.write_text(json.dumps(lineage_to_json(merged(self._known, fetched.lineage))))
        return PrepareSpec(
            source=self.source if fetched is None else str(fetched.path),
            output=str(place.package),
            samples=None if self._samples is None else str(self._samples),
            lineage=None if lineage is None else str(lineage),
            preprocessing=None if self._preprocessing is None else str(self._preprocessing),
            reduced_precision=self._reduced_precision,
        )


@contextmanager
def called_by_its_address(fetched: Fetched | None, progress: Progress) -> Iterator[Progress]:
    """What is told and raised inside names a fetched model as people do, not by the staging directory it lies in."""
    if fetched is None:
        yield progress
        return
    here, there = str(fetched.path), fetched.source
    try:
        yield lambda stage, detail: progress(stage, detail.replace(here, there))
    except TealError as error:
        raise type(error)(error.message.replace(here, there)) from error


def merged(said: Lineage, found: Lineage) -> Lineage:
    """What a person said goes before what was found where the model lay."""
    return replace(
        said,
        training_run=said.training_run or found.training_run,
        dataset=said.dataset or found.dataset,
        dataset_digest=said.dataset_digest or (found.dataset_digest if said.dataset is None else None),
        git_commit=said.git_commit or found.git_commit,
        parameters={**found.parameters, **said.parameters},
        metrics={**found.metrics, **said.metrics},
        notes={**found.notes, **said.notes},
    )


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()
