"""Reads sample inputs that a person gave: an .npz of arrays by input name, or JSON as TensorFlow Serving takes it.

Every difference between the file and the signature is named. Knows nothing of what the samples are for.
"""

import base64
import binascii
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import InvalidInput
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving.engine.base import NUMPY_DTYPES, Array

MAX_BYTES = 1024 * 1024 * 1024


def read_given(path: Path, signatures: tuple[Signature, ...]) -> tuple[str, dict[str, Array]]:
    """The name of the signature the file is about, and its inputs. Raise InvalidInput naming what does not fit."""
    if not path.is_file():
        raise InvalidInput(f"samples {path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"samples {path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    if zipfile.is_zipfile(path):
        arrays = _read_npz(path)
        signature = _signature_for(arrays.keys(), signatures)
        inputs = {spec.name: _typed(spec, arrays[spec.name]) for spec in signature.inputs}
    else:
        signature, inputs = _read_json(path, signatures)
    return signature.name, _checked(signature, inputs)


def read_columns(signature: Signature, values: Any) -> dict[str, Array]:
    """The inputs of `signature` from JSON in column form: one array by input, or the array itself for the only one.
    Raise InvalidInput naming what does not fit."""
    columns = _columns(signature, values)
    return _checked(signature, {spec.name: _array(spec, columns[spec.name]) for spec in signature.inputs})


def _checked(signature: Signature, inputs: dict[str, Array]) -> dict[str, Array]:
    for spec in signature.inputs:
        _check(spec, inputs[spec.name])
    _check_rows(signature, inputs)
    return inputs


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise InvalidInput(
            f"samples {path.name}: expected an .npz of plain arrays (no objects; text as fixed-width bytes): {error}"
        ) from error


def _signature_for(names: Any, signatures: tuple[Signature, ...]) -> Signature:
    """The first signature with exactly these inputs; they come with the default one first."""
    given = set(names)
    for signature in signatures:
        if {spec.name for spec in signature.inputs} == given:
            return signature
    wanted = _default(signatures)
    raise InvalidInput(
        f'samples: expected the inputs of signature "{wanted.name}", {_names(s.name for s in wanted.inputs)}, '
        f"got {_names(given)}"
    )


def _default(signatures: tuple[Signature, ...]) -> Signature:
    return next((s for s in signatures if s.name == DEFAULT_SIGNATURE), signatures[0])


def _names(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names)) or "nothing"


def _typed(spec: TensorSpec, array: Array) -> Array:
    """Text in an .npz is fixed-width (S or U); everything else must have the input's own dtype."""
    if spec.dtype == "string" and array.dtype.kind in "SU":
        texts = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
        typed = np.empty(array.shape, object)
        typed.ravel()[:] = texts
        return typed
    return array


def _check(spec: TensorSpec, array: Array) -> None:
    if (words := misfit(spec, array)) is not None:
        raise InvalidInput(f"samples: {words}")


def misfit(spec: TensorSpec, array: Array) -> str | None:
    """What is wrong with `array` as this input, None when it fits."""
    expected = NUMPY_DTYPES.get(spec.dtype)
    fits = spec.shape is None or (
        len(spec.shape) == array.ndim and all(d in (None, n) for d, n in zip(spec.shape, array.shape, strict=True))
    )
    if array.dtype != expected or not fits:
        dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
        return f'input "{spec.name}": expected {spec}, got {dtype} {list(array.shape)}'
    if array.size == 0:
        return f'input "{spec.name}": expected at least one row, got {list(array.shape)}'
    return None


def _check_rows(signature: Signature, inputs: Mapping[str, Array]) -> None:
    rows = {s.name: len(inputs[s.name]) for s in signature.inputs if s.shape and s.shape[0] is None}
    if len(set(rows.values())) > 1:
        raise InvalidInput("samples: inputs differ in rows: " + ", ".join(f'"{n}" has {r}' for n, r in rows.items()))


def _read_json(path: Path, signatures: tuple[Signature, ...]) -> tuple[Signature, dict[str, Array]]:
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"samples {path.name}: expected an .npz file or JSON, got neither: {error}") from error
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise InvalidInput(
            f'samples {path.name}: expected {{"instances": […]}} (rows) or {{"inputs": {{…}}}} (columns), like :predict'
        )
    name = body.get("signature_name", _default(signatures).name)
    signature = next((s for s in signatures if s.name == name), None)
    if signature is None:
        raise InvalidInput(
            f"samples {path.name}: no signature {name!r}, the model has {_names(s.name for s in signatures)}"
        )
    columns = _columns(signature, body["inputs"]) if "inputs" in body else _from_rows(signature, body["instances"])
    return signature, {spec.name: _array(spec, columns[spec.name]) for spec in signature.inputs}


def _columns(signature: Signature, inputs: Any) -> Mapping[str, Any]:
    """Column form: one array by input, or the array itself for a model with one input."""
    names = [spec.name for spec in signature.inputs]
    if len(names) == 1 and not (isinstance(inputs, dict) and names[0] in inputs):
        return {names[0]: inputs}
    if not isinstance(inputs, dict) or set(inputs) != set(names):
        got = _names(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise InvalidInput(f"samples: expected inputs {_names(names)}, got {got}")
    return inputs


def _from_rows(signature: Signature, instances: Any) -> Mapping[str, Any]:
    """Row form: a list of objects by input, or of plain values for a model with one input."""
    names = [spec.name for spec in signature.inputs]
    if not isinstance(instances, list) or not instances:
        raise InvalidInput('samples: expected "instances" to be a list with at least one row')
    if len(names) == 1 and not (isinstance(instances[0], dict) and names[0] in instances[0]):
        return {names[0]: instances}
    for i, row in enumerate(instances):
        if not isinstance(row, dict) or set(row) != set(names):
            got = _names(row) if isinstance(row, dict) else type(row).__name__
            raise InvalidInput(f"samples: row {i}: expected inputs {_names(names)}, got {got}")
    return {name: [row[name] for row in instances] for name in names}


def _array(spec: TensorSpec, value: Any) -> Array:
    dtype = NUMPY_DTYPES.get(spec.dtype)
    try:
        if spec.dtype == "string":
            return _text_array(value)
        found = np.array(value)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f'samples: input "{spec.name}": expected {spec}, got rows of different sizes') from error
    if dtype is None or not _holds(dtype, found):
        raise InvalidInput(f'samples: input "{spec.name}": expected {spec}, got {found.dtype} that does not fit')
    return found.astype(dtype)


def _holds(dtype: np.dtype[Any], found: Array) -> bool:
    """JSON numbers carry no dtype: whole numbers fit any number that can hold them, fractions only floats."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return found.dtype.kind in "iu" and bool(np.all((found >= limits.min) & (found <= limits.max)))
    if dtype.kind == "b":
        return found.dtype.kind == "b"
    return dtype.kind in "fc" and found.dtype.kind in "iuf"


def _text_array(value: Any) -> Array:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat = list(_leaves(value))
    array = np.empty(len(flat), object)
    for i, leaf in enumerate(flat):
        array[i] = _text(leaf)
    return array.reshape(shape)


def _leaves(value: Any) -> Any:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _text(leaf: Any) -> bytes:
    if isinstance(leaf, str):
        return leaf.encode()
    if isinstance(leaf, dict) and set(leaf) == {"b64"} and isinstance(leaf["b64"], str):
        try:
            return base64.b64decode(leaf["b64"], validate=True)
        except binascii.Error as error:
            raise InvalidInput(f"samples: {leaf!r:.60} is not base64: {error}") from error
    raise InvalidInput(f'samples: expected text or {{"b64": "…"}}, got {leaf!r:.60}')
