"""From MLflow's run, registered version and logged model to Teal's lineage. Pure; knows the shapes, not the library."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_ENTRIES = 500  # parameters, metrics, tags each
MAX_TEXT = 500  # characters of one value
_GIT_COMMIT = "mlflow.source.git.commit"
_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class Training:
    """Entities of MLflow as they came; each may be unknown. `experiment` is its name."""

    run: Any = None
    experiment: str | None = None
    version: Any = None
    logged: Any = None
    run_id: str | None = None


def lineage_of(known: Training, server: str) -> dict[str, Any]:
    """As contracts.package.Lineage's JSON. `server` is where it comes from, without a password."""
    run, logged = known.run, known.logged
    tags = dict(run.data.tags) if run is not None else {}
    datasets = [_dataset(d) for d in (run.inputs.dataset_inputs if run is not None and run.inputs is not None else ())]
    trained_on = next((d for d in datasets if d.get("context") in (None, "training", "train")), None)
    return {
        "training_run": run.info.run_id if run is not None else known.run_id,
        "dataset": None if trained_on is None else trained_on["name"],
        "dataset_digest": None if trained_on is None else trained_on["digest"],
        "parameters": _bounded(run.data.params if run is not None else getattr(logged, "params", None)),
        "metrics": _bounded(run.data.metrics if run is not None else _metrics(logged)),
        "git_commit": tags.get(_GIT_COMMIT),
        "notes": {"mlflow": _facts(known, tags, datasets, server)},
    }


def _facts(known: Training, tags: Mapping[str, str], datasets: list[dict[str, Any]], server: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"server": server, "experiment": known.experiment, "datasets": datasets[:MAX_ENTRIES]}
    if known.run is not None:
        facts |= {"run_name": known.run.info.run_name, "user": tags.get("mlflow.user") or known.run.info.user_id}
        facts |= {"trained_by": tags.get("mlflow.source.name")}
    if known.version is not None:
        facts |= {"model": known.version.name, "version": str(known.version.version)}
        facts |= {"aliases": list(known.version.aliases or ()), "version_tags": _bounded(known.version.tags)}
    if known.logged is not None:
        facts["model_id"] = known.logged.model_id
    # MLflow's own tags are bookkeeping; the others are what people wrote.
    facts["tags"] = _bounded({name: value for name, value in tags.items() if not name.startswith("mlflow.")})
    return {name: value for name, value in facts.items() if value not in (None, "", [], {})}


def _dataset(entry: Any) -> dict[str, Any]:
    facts = {
        "name": entry.dataset.name,
        "digest": entry.dataset.digest,
        "source": redacted(str(entry.dataset.source))[:MAX_TEXT],
        "context": next((tag.value for tag in entry.tags if tag.key == _CONTEXT), None),
    }
    return {name: value for name, value in facts.items() if value is not None or name in ("name", "digest")}


def _metrics(logged: Any) -> dict[str, Any]:
    found: Iterable[Any] = getattr(logged, "metrics", None) or ()
    return {metric.key: metric.value for metric in found}


def _bounded(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Few and short enough for a manifest. JSON has no NaN, a metric may: it stays readable as text."""
    taken = sorted((values or {}).items())[:MAX_ENTRIES]
    return {name[:MAX_TEXT]: _plain(value) for name, value in taken}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, int) else str(value)[:MAX_TEXT]


def redacted(text: str) -> str:
    """Without user and password of URLs, and without their queries, which may be signatures."""
    return re.sub(r"(\w+://)[^/@\s]*@", r"\1", re.sub(r"\?[^\s\"']*", "", text))
