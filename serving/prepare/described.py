"""What MLflow says about a model, held against the model: its input example as samples, its signature, its lineage.

None of it is needed to serve. So nothing here fails a registration: what does not fit becomes a note in the report.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contracts.errors import InvalidInput
from contracts.package import Lineage
from contracts.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving.prepare.given import read_columns
from serving.prepare.mlmodel import MlModel, Tensor
from serving.prepare.samples import Given
from serving.prepare.source import Source

MAX_EXAMPLE_BYTES = 64 * 1024 * 1024
_ORIGIN = "input example of MLflow"


@dataclass(frozen=True)
class Described:
    """Samples by signature, and sentences for the report."""

    given: Mapping[str, Given]
    notes: tuple[str, ...]


NOTHING = Described({}, ())


def describe(found: Source, signatures: tuple[Signature, ...]) -> Described:
    """What the MLflow model directory of `found` adds to a model with these signatures."""
    told, place = found.mlflow, found.described
    if told is None or place is None:
        return NOTHING
    called = _called(told, signatures)
    given, notes = _example(place, told, called)
    return Described(given, (*_about_signature(told, called), *notes))


def with_mlflow(lineage: Lineage, told: MlModel | None) -> Lineage:
    """`lineage` with what MLmodel knows, where it says nothing itself."""
    if told is None:
        return lineage
    known = lineage.notes.get("mlflow")
    about = {**told.about, **(known if isinstance(known, Mapping) else {})}
    return replace(lineage, training_run=lineage.training_run or told.run, notes={**lineage.notes, "mlflow": about})


def _called(told: MlModel, signatures: tuple[Signature, ...]) -> Signature:
    """The signature MLflow would call: the one it names, else the default one, else the only one that makes sense."""
    by_name = {s.name: s for s in signatures}
    return by_name.get(told.signature or DEFAULT_SIGNATURE) or by_name.get(DEFAULT_SIGNATURE) or signatures[0]


def _about_signature(told: MlModel, called: Signature) -> tuple[str, ...]:
    notes = []
    if told.signature not in (None, called.name):
        notes.append(f'MLflow names signature "{told.signature}", which the model does not have')
    elif called.name != DEFAULT_SIGNATURE:
        notes.append(f'MLflow calls signature "{called.name}": callers name it in signature_name')
    for declared in told.inputs or ():
        spec = _meant(declared, called)
        if spec is None:
            notes.append(f'MLflow\'s signature has an input "{declared.name}", "{called.name}" does not')
        elif not _agrees(declared, spec):
            says = f"{declared.dtype} {[None if n < 0 else n for n in declared.shape]}".replace("None", "?")
            notes.append(f'MLflow\'s signature says {says} for input "{spec.name}", the model takes {spec}')
    return tuple(notes)


def _meant(declared: Tensor, called: Signature) -> TensorSpec | None:
    if len(called.inputs) == 1:  # MLflow needs no name for the only input, and Keras models it under another one
        return called.inputs[0]
    return next((spec for spec in called.inputs if spec.name == declared.name), None)


def _agrees(declared: Tensor, spec: TensorSpec) -> bool:
    dtype = "string" if declared.dtype in ("object", "str", "bytes") else declared.dtype
    if dtype != spec.dtype:
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == len(declared.shape) and all(
        ours is None or theirs in (-1, ours) for ours, theirs in zip(spec.shape, declared.shape, strict=True)
    )


def _example(place: Path, told: MlModel, called: Signature) -> tuple[dict[str, Given], tuple[str, ...]]:
    name = next((name for name in told.examples if (place / name).is_file()), None)
    if name is None:
        return {}, ()
    try:
        inputs = read_columns(called, _columns(_load(place / name), called))
    except (InvalidInput, ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        words = error.message.removeprefix("samples: ") if isinstance(error, InvalidInput) else f"{error}"
        return {}, (f"the {_ORIGIN} does not fit and was left out: {words}",)
    return {called.name: Given((inputs,), f"the {_ORIGIN}", optional=True)}, ()


def _load(path: Path) -> Any:
    if path.stat().st_size > MAX_EXAMPLE_BYTES:
        raise InvalidInput(f"expected at most {MAX_EXAMPLE_BYTES} bytes, got {path.stat().st_size}")
    return json.loads(path.read_bytes())


def _columns(body: Any, called: Signature) -> Any:
    """The forms of MLflow, as one array by input or as the array of the only input: {"inputs": …} as for its server,
    a table in split orientation (bare or under "dataframe_split"), rows as objects, or the bare example."""
    if isinstance(body, dict) and "dataframe_split" in body:
        body = body["dataframe_split"]
    elif isinstance(body, dict) and "inputs" in body and "inputs" not in {spec.name for spec in called.inputs}:
        body = body["inputs"]
    if isinstance(body, dict) and isinstance(body.get("data"), list) and isinstance(body.get("columns"), list):
        return _of_table(body["columns"], body["data"], called)
    if isinstance(body, list) and body and all(isinstance(row, dict) and "b64" not in row for row in body):
        return {name: [row[name] for row in body] for name in body[0]}
    return body


def _of_table(columns: list[Any], rows: list[Any], called: Signature) -> Any:
    """Columns are inputs where they have their names; else a row of the table is a row of the only input."""
    if {str(c) for c in columns} != {spec.name for spec in called.inputs}:
        return rows
    wide = {spec.name for spec in called.inputs if spec.shape is not None and len(spec.shape) == 2}
    taken = {str(name): [row[i] for row in rows] for i, name in enumerate(columns)}
    return {name: [[v] if name in wide and not isinstance(v, list) else v for v in vs] for name, vs in taken.items()}
