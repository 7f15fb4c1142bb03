"""Closes a package: every byte on the disk, then the manifest at once. Without a manifest there is no package."""

import json
import os
import shutil
from pathlib import Path

from contracts.errors import Conflict, InvalidInput
from contracts.package import MANIFEST, Lineage, Manifest, lineage_from_json, manifest_to_json
from contracts.preprocessing import Preprocessing, parse

MAX_LINEAGE_BYTES = 1024 * 1024


def open_output(text: str) -> Path:
    """The directory a package is written into. Raise Conflict when there is something in it already."""
    output = Path(text)
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise Conflict(f"output {text} is not empty: expected an empty directory")
    return output


def empty(output: Path) -> None:
    """Remove what a failed preparation left, so that it neither looks like a package nor fills the disk."""
    (output / MANIFEST).unlink(missing_ok=True)
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_lineage(text: str | None) -> Lineage:
    """The lineage a person wrote, checked before any long work begins. Raise InvalidInput saying what is wrong."""
    if text is None:
        return Lineage()
    path = Path(text)
    if not path.is_file():
        raise InvalidInput(f"lineage {text}: no such file")
    if path.stat().st_size > MAX_LINEAGE_BYTES:
        raise InvalidInput(f"lineage {text}: expected at most {MAX_LINEAGE_BYTES} bytes, got {path.stat().st_size}")
    try:
        return lineage_from_json(json.loads(path.read_bytes(), parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"lineage {text}: expected a JSON object: {error}") from error


def read_preprocessing(text: str | None) -> Preprocessing | None:
    """What a person declared about pictures. Raise InvalidInput with the line or the field of the mistake."""
    if text is None:
        return None
    path = Path(text)
    if not path.is_file():
        raise InvalidInput(f"preprocessing {text}: no such file")
    if path.stat().st_size > MAX_LINEAGE_BYTES:
        raise InvalidInput(f"preprocessing {text}: expected at most {MAX_LINEAGE_BYTES} bytes")
    return parse(path.read_bytes(), path.name)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number; write null or text")


def flush(root: Path) -> None:
    """Put every file and directory under `root`, and `root` itself, on the disk."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            _fsync(Path(directory) / name)
        _fsync(Path(directory))


def write_manifest(root: Path, manifest: Manifest) -> None:
    """The last step: everything the manifest names is on the disk already (`flush`)."""
    draft = root / f".{MANIFEST}.draft"
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(manifest_to_json(manifest), stream, indent=1, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(root / MANIFEST)
    _fsync(root)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
