"""Finds the model among the names of a directory, be it of this machine, of a bucket or of a run's artifacts.

Asks for names and for the small file that describes an MLflow model; opens, copies and fetches nothing itself.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from contracts.errors import InvalidInput, Unsupported
from serving.prepare import mlmodel
from serving.prepare.mlmodel import MlModel
from serving.prepare.savedmodel import MODEL_FILE

KIND_SAVED_MODEL = "saved_model"
KIND_KERAS = "keras"
KIND_TFLITE = "tflite"
FILE_KINDS = {".keras": KIND_KERAS, ".tflite": KIND_TFLITE}

# What a SavedModel is made of. Anything else beside it (notes, logs, a .git) is not part of the model and stays out.
MEMBERS = frozenset({MODEL_FILE, "fingerprint.pb", "keras_metadata.pb", "variables", "assets", "assets.extra"})
_VERSION = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Names:
    """What lies directly in a directory."""

    files: frozenset[str]
    directories: frozenset[str]


class Tree(Protocol):
    """A directory to look into. Paths are relative to it, with "/" between names; "" is the directory itself."""

    def names(self, below: str) -> Names:
        """Empty when there is no such directory."""

    def read(self, path: str, limit: int) -> bytes:
        """A small file. Raise TooLarge when it is bigger than `limit` bytes."""


@dataclass(frozen=True)
class Found:
    """Where the model is: the SavedModel directory or the file at `path`, and what MLflow says about it."""

    kind: str
    path: str
    mlflow: MlModel | None = None

    def wants(self, path: str) -> bool:
        """Whether the file at `path` is part of the model, or of what MLflow describes it with."""
        if self.mlflow is not None and path in (mlmodel.FILE, *self.mlflow.examples):
            return True
        if self.kind != KIND_SAVED_MODEL:
            return path == self.path
        inside = path.removeprefix(join(self.path, ""))
        return path.startswith(join(self.path, "")) and inside.split("/")[0] in MEMBERS


def join(*parts: str) -> str:
    """Names below each other; `join(x, "")` is the prefix of everything below `x`."""
    text = "/".join(part for part in parts if part)
    return f"{text}/" if text and not parts[-1] else text


def find(tree: Tree, source: str) -> Found:
    """Raise InvalidInput or Unsupported, naming `source` and what was seen, when there is no model to take."""
    top = tree.names("")
    if mlmodel.FILE in top.files:
        return _described(tree, source)
    if MODEL_FILE in top.files:
        return Found(KIND_SAVED_MODEL, "")
    if "saved_model.pbtxt" in top.files:
        raise Unsupported(f"source {source}: SavedModels in text form are not read: save it as {MODEL_FILE}")
    if versions := sorted((name for name in top.directories if _VERSION.fullmatch(name)), key=lambda name: -int(name)):
        return _highest(tree, source, versions)
    raise InvalidInput(
        f"source {source}: expected {MODEL_FILE}, MLmodel or numbered version directories in it, got {_seen(top)}: "
        f"{_hint(tree, source, top)}"
    )


def _highest(tree: Tree, source: str, versions: list[str]) -> Found:
    names = tree.names(versions[0])
    if MODEL_FILE not in names.files:
        older = f", or take an earlier one: {join(source.rstrip('/'), versions[1])}" if len(versions) > 1 else ""
        raise InvalidInput(
            f"source {source}: its highest version, {versions[0]}, has no {MODEL_FILE}: {_seen(names)}: "
            f"register when its writer is done{older}"
        )
    return Found(KIND_SAVED_MODEL, versions[0])


def _described(tree: Tree, source: str) -> Found:
    """The model of a directory that MLflow wrote. Only its TensorFlow and Keras flavors are ever looked at."""
    told = mlmodel.parse(tree.read(mlmodel.FILE, mlmodel.MAX_BYTES), source)
    if told.saved_model is not None:
        if MODEL_FILE not in tree.names(told.saved_model).files:
            raise InvalidInput(f"source {source}: MLmodel names the SavedModel {told.saved_model}, which is not there")
        return Found(KIND_SAVED_MODEL, told.saved_model, told)
    data = tree.names(told.data)
    if "model.keras" in data.files:
        return Found(KIND_KERAS, join(told.data, "model.keras"), told)
    if "model" in data.directories and MODEL_FILE in tree.names(join(told.data, "model")).files:
        return Found(KIND_SAVED_MODEL, join(told.data, "model"), told)
    if "model.h5" in data.files:
        raise Unsupported(
            f"source {source}: HDF5 models are not read: log it again with "
            'mlflow.tensorflow.log_model(…, keras_model_kwargs={"save_format": "keras"})'
        )
    raise InvalidInput(
        f"source {source}: expected model.keras or a SavedModel in {told.data or 'it'}, got {_seen(data)}: log it again"
    )


def _seen(names: Names) -> str:
    seen = sorted(names.files | names.directories)
    return "an empty directory" if not seen else ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")


def _hint(tree: Tree, source: str, top: Names) -> str:
    """What the user probably meant: the one file, or the one directory further down."""
    place = source.rstrip("/")
    if models := sorted(name for name in top.files if name.endswith(tuple(FILE_KINDS))):
        return f"name the file: {join(place, models[0])}"
    for name in sorted(top.directories)[:20]:
        inside = tree.names(name)
        if {MODEL_FILE, mlmodel.FILE} & inside.files or any(map(_VERSION.fullmatch, inside.directories)):
            return f"there is a model further down: {join(place, name)}"
    return "export with model.export(…) or tf.saved_model.save(…)"
