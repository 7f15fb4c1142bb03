"""The static scan of a .keras file: archive, configuration and weights, before Keras opens any of them.

Keras' own safe mode has been passed by crafted files again and again, so it is not the boundary here: only classes of
Keras that compute are let through, by an allow-list, and weights may not point at other files.
"""

import json
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from contracts.errors import InvalidInput

MAX_ENTRIES = 1_000
MAX_CONFIG_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_RATIO = 200  # unpacked ÷ packed; a zip bomb starts far beyond what weights compress to
MAX_DECLARED_RATIO = 100  # bytes a data set declares ÷ bytes of its file, for weights that are compressed

_ENTRIES = ("config.json", "metadata.json", "model.weights.h5")
_ASSETS = "assets/"

# Where classes may come from. keras.utils (downloads), keras.saving, keras.src.legacy and every other module stay out.
_MODULES = (
    "activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models", "ops",
    "optimizers", "quantizers", "random", "regularizers",
)  # fmt: skip
_FUNCTION_MODULES = ("activations", "initializers", "losses", "metrics", "ops", "regularizers")
# Layers that carry code, or load a model of another framework from a path.
_FORBIDDEN_CLASSES = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_PLAIN_VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__tuple__",
                           "__complex__", "__slice__"})  # fmt: skip


def refuse_unsafe_keras(path: Path, scratch: Path) -> None:
    """Raise InvalidInput when the archive at `path` is broken or holds more than a model made of Keras' own layers.
    `scratch` is a directory for the unpacked weights; what is put there is removed again."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive)
            _check_config(archive)
            weights = scratch / "scan.weights.h5"
            try:
                with archive.open("model.weights.h5") as packed, weights.open("wb") as unpacked:
                    while chunk := packed.read(1 << 20):
                        unpacked.write(chunk)
                _check_weights(weights)
            finally:
                weights.unlink(missing_ok=True)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InvalidInput(f".keras file: the archive is damaged ({error}): save the model again") from error


def _check_entries(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise InvalidInput(f".keras file: expected at most {MAX_ENTRIES} entries, got {len(entries)}")
    names = [entry.filename for entry in entries]
    for entry in entries:
        name, mode = entry.filename, entry.external_attr >> 16
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise InvalidInput(f".keras file: entry {name!r} points out of the archive")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidInput(f".keras file: entry {name!r} is a link or a device, expected plain files")
        if names.count(name) > 1:
            raise InvalidInput(f".keras file: entry {name!r} is there twice")
        if name not in _ENTRIES and not name.startswith(_ASSETS):
            raise InvalidInput(f".keras file: unexpected entry {name!r}, expected {', '.join(_ENTRIES)} and {_ASSETS}")
        if entry.file_size > MAX_UNPACKED_RATIO * max(entry.compress_size, 1024):
            raise InvalidInput(
                f".keras file: entry {name!r} unpacks from {entry.compress_size} to {entry.file_size} bytes, "
                f"more than {MAX_UNPACKED_RATIO} times: refused"
            )
    missing = [name for name in _ENTRIES if name not in names]
    if missing:
        raise InvalidInput(
            f".keras file: {missing[0]} is missing: expected an archive written by model.save(…) of Keras 3"
        )


def _check_config(archive: zipfile.ZipFile) -> None:
    if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
        raise InvalidInput(f".keras file: config.json is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f".keras file: config.json is not readable JSON: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise InvalidInput(".keras file: config.json does not describe a model")
    # How the model was trained is not loaded (compile=False), so custom losses and metrics there do no harm.
    config.pop("compile_config", None)
    for item in _objects(config):
        _check_object(item)


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every JSON object inside `config`, itself included, however deep."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_object(item: Mapping[str, Any]) -> None:
    name = item.get("name")
    if isinstance(name, str) and (name.startswith("/") or "\\" in name or ".." in name.split("/")):
        raise InvalidInput(f".keras file: layer name {name[:80]!r} could be read as a path out of the model")
    if isinstance(item.get("vocabulary"), str):
        raise InvalidInput(
            f".keras file: a vocabulary is read from the file {item['vocabulary'][:80]!r}: "
            "pass the words themselves (vocabulary=[…]) and save the model again"
        )
    if "class_name" not in item:
        return
    class_name, module = item["class_name"], item.get("module")
    if class_name in _PLAIN_VALUES and module is None:
        return
    if not isinstance(class_name, str) or not class_name.isidentifier() or class_name in _FORBIDDEN_CLASSES:
        raise InvalidInput(
            f".keras file: {str(class_name)[:80]} carries code or loads other files and is not let in: "
            "export the model with model.export(…) and register the SavedModel"
        )
    allowed = _FUNCTION_MODULES if class_name == "function" else _MODULES
    if not _from_keras(module, allowed, top=class_name != "function"):
        raise InvalidInput(
            f".keras file: {class_name} comes from {str(module)[:80]!r}, not from Keras' own layers: "
            "export the model with model.export(…) and register the SavedModel"
        )
    if class_name == "function" and not str(item.get("config")).isidentifier():
        raise InvalidInput(f".keras file: function {str(item.get('config'))[:80]!r} is not a name of {module}")


def _from_keras(module: Any, allowed: tuple[str, ...], top: bool) -> bool:
    if not isinstance(module, str):
        return False
    if top and module == "keras":
        return True
    parts = module.removeprefix("keras.src.").removeprefix("keras.").split(".")
    return module.startswith("keras.") and parts[0] in allowed


def _check_weights(path: Path) -> None:
    """Follow no link: HDF5 files can name other files of this machine, and sizes they do not have."""
    size = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            declared = sum(_declared_bytes(file))
    except OSError as error:
        raise InvalidInput(f".keras file: model.weights.h5 is damaged: {error}") from error
    if declared > MAX_DECLARED_RATIO * max(size, 1024):
        raise InvalidInput(
            f".keras file: model.weights.h5 declares {declared} bytes of weights in a file of {size} bytes: refused"
        )


def _declared_bytes(file: Any) -> Iterator[int]:
    waiting = [("", file)]
    seen = set()  # groups may hold each other: hard links can form a ring
    while waiting:
        where, group = waiting.pop()
        for name in group:
            place = f"{where}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InvalidInput(f".keras file: model.weights.h5 holds a link at {place}: weights must be inside it")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append((place, item))
            elif not isinstance(item, h5py.Dataset):
                raise InvalidInput(f".keras file: model.weights.h5 holds something else than weights at {place}")
            elif item.external or item.is_virtual:
                raise InvalidInput(
                    f".keras file: model.weights.h5 keeps {place} in another file: weights must be inside it"
                )
            else:
                yield item.size * item.dtype.itemsize
