"""From a verified package to a loaded engine: the one place that knows which plan is which class."""

import importlib
from pathlib import Path

from contracts.errors import InvalidInput
from contracts.package import Manifest
from serving.engine.base import Engine


def open_engine(package_root: Path, manifest: Manifest, threads: int) -> Engine:
    """Load the manifest's chosen plan. Raises InvalidInput for a plan this release cannot run or that has no path;
    whatever the runtime raises on a broken model leaves as it is."""
    report = next((p for p in manifest.plans if p.name == manifest.plan), None)
    if report is None or report.path is None:
        raise InvalidInput(f"package names plan {manifest.plan!r} and holds no files for it: prepare it again")
    path = package_root / report.path
    # Imported by name and late: a litert worker must never pay for TensorFlow (400 MB, seconds), nor the other way.
    if manifest.plan == "litert":
        module = importlib.import_module("serving.engine.litert")
        engine: Engine = module.LitertEngine(path, manifest.signatures, manifest.buckets, threads)
    elif manifest.plan == "tensorflow":
        module = importlib.import_module("serving.engine.tensorflow")
        engine = module.TensorflowEngine(path, manifest.signatures, threads)
    else:
        raise InvalidInput(f"package asks for plan {manifest.plan!r}; this release runs litert and tensorflow")
    return engine
