"""Recognises a model source, copies it aside and names its bytes.

Everything after this step works on the copy, so that a trainer still writing, or a hand changing the source meanwhile,
cannot make the package differ from what was scanned. Which names make a model is layout.py's business; neither of them
knows TensorFlow or what is inside.
"""

import hashlib
import os
import re
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput, NotFound, TooLarge, Unsupported
from contracts.package import canonical_json, list_files, sha256_of
from serving.prepare import layout
from serving.prepare.layout import Names
from serving.prepare.mlmodel import MlModel
from serving.prepare.savedmodel import MODEL_FILE

_TFLITE_MAGIC = b"TFL3"  # at byte 4: the file identifier of the flatbuffer
MAX_FILES = 10_000  # of a SavedModel; ordinary ones have fewer than a hundred
_SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")


@dataclass(frozen=True)
class Source:
    """A model as it came: its kind, the SavedModel directory or the file itself, and what MLflow said about it, read
    from the directory `described`."""

    kind: str
    path: Path
    mlflow: MlModel | None = None
    described: Path | None = None


class LocalTree:
    """A directory of this machine, as layout.Tree."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, below: str) -> Names:
        try:
            found = [(entry.name, entry.is_dir()) for entry in os.scandir(self._root / below)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return Names(frozenset(), frozenset())
        return Names(frozenset(n for n, d in found if not d), frozenset(n for n, d in found if d))

    def read(self, path: str, limit: int) -> bytes:
        with (self._root / path).open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise TooLarge(f"source: {path} is bigger than {limit} bytes")
        return content


def recognise(text: str) -> Source:
    """Find the model at `text`: a SavedModel directory, a directory with numbered versions in it (the highest is
    taken), one that MLflow wrote, a .keras or a .tflite file. Raise NotFound, InvalidInput or Unsupported saying what
    was expected and what came."""
    path = Path(text).expanduser()
    if not path.exists():
        raise NotFound(f"source {text}: no such file or directory")
    if path.is_dir():
        found = layout.find(LocalTree(path), text)
        return Source(found.kind, path / found.path, found.mlflow, path)
    if not path.is_file():
        raise InvalidInput(
            f"source {text}: expected a directory or a file, got something else, like a pipe or a device"
        )
    if path.name == MODEL_FILE:
        return Source(layout.KIND_SAVED_MODEL, path.parent)
    if path.suffix in (".h5", ".hdf5"):
        raise Unsupported(
            f"source {text}: HDF5 models are not read: load it and save it again with model.export(…) or as .keras"
        )
    if path.suffix == ".tflite" or _has_magic(path):
        if not _has_magic(path):
            raise InvalidInput(
                f"source {text}: expected a TensorFlow Lite file, got {path.stat().st_size} bytes of another kind: "
                "is it still being written?"
            )
        return Source(layout.KIND_TFLITE, path)
    if not zipfile.is_zipfile(path):
        raise InvalidInput(
            f"source {text}: expected a SavedModel directory, a whole .keras or a .tflite file, got one of "
            f"{path.stat().st_size} bytes that is no zip archive: is it still being written?"
        )
    return Source(layout.KIND_KERAS, path)


def _has_magic(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(8)[4:] == _TFLITE_MAGIC


def copy_saved_model(source: Path, target: Path) -> None:
    """Copy the model's own files from `source` to the new directory `target`. Raise InvalidInput when they change
    meanwhile, when a part is missing, or when something else than files and directories is among them."""
    before = _listing(source)
    target.mkdir(parents=True)
    for relative in before:
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, target / relative)
    _unchanged(source, before, _listing(source))
    _check_variables(target)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file; raise InvalidInput when it changes meanwhile."""
    before = {source.name: _mark(source)}
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    _unchanged(source, before, {source.name: _mark(source)})


def digest_of_copy(path: Path) -> str:
    """sha256 naming every byte of the copied source: of the file, or of the sorted list of paths and their sha256."""
    if path.is_file():
        return sha256_of(path)
    return hashlib.sha256(canonical_json([[f.path, f.sha256] for f in list_files(path)])).hexdigest()


def _listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Every file of the model → what would change if it were written again."""
    found: dict[str, tuple[int, int, int]] = {}
    home = root.resolve()
    for name in sorted(layout.MEMBERS):
        top = root / name
        for path in [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]:
            if not path.resolve().is_relative_to(home):
                raise InvalidInput(
                    f"source: {path.relative_to(root)} is a link out of the model, to {path.resolve()}: "
                    "copy the model with its links followed (cp -rL) and register the copy"
                )
            if path.is_dir() or not os.path.lexists(path):
                continue
            found[path.relative_to(root).as_posix()] = _mark(path)
            if len(found) > MAX_FILES:
                raise InvalidInput(f"source: expected at most {MAX_FILES} files in a SavedModel, got more")
    return found


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise InvalidInput(
            f"source: {path.name} vanished while it was read: register again when it is complete"
        ) from None
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(f"source: {path.name} is no regular file: a model is made of files and directories only")
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _unchanged(source: Path, before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> None:
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise InvalidInput(
            f"source {source}: {changed[0]} changed while it was copied: register again when its writer is done"
        )


def _check_variables(copy: Path) -> None:
    """Every shard that the file names promise is there; TensorFlow checks their content when it loads."""
    variables = copy / "variables"
    names = {p.name for p in variables.iterdir()} if variables.is_dir() else set()
    shards = [m for m in map(_SHARD.fullmatch, names) if m is not None]
    if shards and "variables.index" not in names:
        raise InvalidInput(
            "source: variables/variables.index is missing beside variables.data-…: the model is half-written"
        )
    if "variables.index" not in names:
        return
    promised = int(shards[0][1]) if shards else 1
    if len(shards) != promised:
        raise InvalidInput(
            f"source: expected {promised} file{'s' * (promised != 1)} variables/variables.data-…, got {len(shards)}: "
            "the model is half-written"
        )
