"""Reads `MLmodel`, the file with which MLflow describes a model directory: which flavor lies where, what it takes.

Only the TensorFlow and Keras flavors are served. The file is data and read as data: `python_function`, which may be any
code or pickle, is neither loaded nor fetched. MLflow itself is not needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import yaml

from contracts.errors import InvalidInput, Unsupported

FILE = "MLmodel"
MAX_BYTES = 4 * 1024 * 1024  # signatures of models with thousands of columns are in it
EXAMPLES = ("serving_input_example.json", "input_example.json")  # the first one that is there is taken
_SERVE_TAG = "serve"


@dataclass(frozen=True)
class Tensor:
    """One input or output as MLflow declares it; `name` is None for the only one, -1 in `shape` is any size."""

    name: str | None
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class MlModel:
    """What MLmodel says. `saved_model` is the SavedModel's directory; where it is None, `data` is the directory of the
    Keras model. `inputs` is None when MLflow knows no tensors. `about` is what lineage keeps of the rest."""

    flavor: str
    saved_model: str | None
    data: str = ""
    signature: str | None = None
    inputs: tuple[Tensor, ...] | None = None
    examples: tuple[str, ...] = ()
    run: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def parse(text: bytes, source: str) -> MlModel:
    """Raise InvalidInput for what is no MLmodel, Unsupported naming the flavors when none of them can be served."""
    try:
        told = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"source {source}: {FILE} is no YAML: {str(error).splitlines()[0]}") from error
    flavors = told.get("flavors") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(flavors, dict):
        raise InvalidInput(f"source {source}: expected a {FILE} with flavors, got one without")
    flavor = next((name for name in ("tensorflow", "keras") if isinstance(flavors.get(name), dict)), None)
    if flavor is None:
        names = ", ".join(sorted(name[:40] for name in flavors if isinstance(name, str))[:10]) or "none"
        raise Unsupported(
            f"source {source}: expected an MLflow model with the flavor tensorflow or keras, got {names}: "
            "others hold Python code or pickles, which are never loaded"
        )
    facts = flavors[flavor]
    saved_model = facts.get("saved_model_dir")
    _check_tags(facts, source)
    return MlModel(
        flavor=flavor,
        saved_model=None if saved_model is None else _inside(saved_model, source),
        data=_inside(facts.get("data") or "data", source),
        signature=_text(facts.get("signature_def_key")),
        inputs=_tensors(told.get("signature")),
        examples=EXAMPLES if told.get("saved_input_example_info") else (),
        run=_text(told.get("run_id")),
        about=_about(told, flavor),
    )


def _check_tags(facts: Mapping[str, Any], source: str) -> None:
    tags = facts.get("meta_graph_tags")
    if isinstance(tags, list) and _SERVE_TAG not in tags:
        named = ", ".join(tag[:40] for tag in tags[:5] if isinstance(tag, str)) or "none"
        raise Unsupported(
            f'source {source}: {FILE} names the graph with tags {named}, expected one with "{_SERVE_TAG}": '
            "save it with signatures for serving and log it again"
        )


def _inside(value: Any, source: str) -> str:
    """A path that stays below the model's directory."""
    path = PurePosixPath(value if isinstance(value, str) else "..")
    if path.is_absolute() or ".." in path.parts or "\\" in str(path):
        raise InvalidInput(
            f"source {source}: {FILE} names the data {str(path)[:80]!r}, expected a path inside the model"
        )
    return "" if str(path) == "." else str(path)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _tensors(signature: Any) -> tuple[Tensor, ...] | None:
    """The declared inputs, None for columns of tables and for what this release does not know."""
    try:
        declared = json.loads(signature["inputs"])
        specs = [(d.get("name"), d["tensor-spec"]) for d in declared]
        return tuple(Tensor(_text(name), str(s["dtype"]), tuple(int(n) for n in s["shape"])) for name, s in specs)
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError):
        return None


def _about(told: Mapping[str, Any], flavor: str) -> dict[str, Any]:
    """Small facts as text: YAML knows dates, JSON does not."""
    facts: dict[str, Any] = {"flavor": flavor}
    for key in ("model_id", "model_uuid", "mlflow_version", "utc_time_created"):
        if isinstance(told.get(key), str | int | float | date):
            facts[key] = str(told[key])[:200]
    if isinstance(told.get("signature"), dict):
        facts["signature"] = {k: v[:10_000] for k, v in told["signature"].items() if isinstance(v, str)}
    return facts
