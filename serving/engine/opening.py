"""From a verified package to a loaded engine: the one place that knows which plan is which class."""

import importlib
from pathlib import Path

from contracts.errors import InvalidInput
from contracts.machine import cores
from contracts.package import Manifest
from contracts.sizing import Sizing, threads_for
from serving.engine.base import Engine

_LITERT = ("litert", "litert-float16", "litert-int8")
_OPENVINO = ("openvino", "openvino-bfloat16")


def sizing(manifest: Manifest, asked: int = 0, replicas: int = 1) -> Sizing:
    """Threads for the chosen plan on this machine, and why; see contracts.sizing."""
    measured = next((report.threads for report in manifest.plans if report.name == manifest.plan), None)
    return threads_for(asked=asked, measured=measured, cores=cores(), replicas=replicas)


def open_engine(package_root: Path, manifest: Manifest, threads: int) -> Engine:
    """Load the manifest's chosen plan; `threads` 0 leaves their number to `sizing`. Raises InvalidInput for a plan this
    release or this machine cannot run or that has no path; whatever the runtime raises on a broken model leaves as it
    is."""
    report = next((p for p in manifest.plans if p.name == manifest.plan), None)
    if report is None or report.path is None:
        raise InvalidInput(f"package names plan {manifest.plan!r} and holds no files for it: prepare it again")
    path = package_root / report.path
    threads = threads or sizing(manifest).count
    # Imported by name and late: a litert worker must never pay for TensorFlow (400 MB, seconds), nor the other way.
    if manifest.plan in _LITERT:
        module = importlib.import_module("serving.engine.litert")
        engine: Engine = module.LitertEngine(path, manifest.signatures, manifest.buckets, threads)
    elif manifest.plan in _OPENVINO:
        try:
            module = importlib.import_module("serving.engine.openvino")
        except ModuleNotFoundError as error:
            raise InvalidInput(
                f"package asks for plan {manifest.plan!r}, and OpenVINO is not installed where this worker runs: "
                "pip install 'teal[openvino]' there, or register the model again without it"
            ) from error
        engine = module.OpenvinoEngine(path, manifest.signatures, threads, bfloat16=manifest.plan != "openvino")
    elif manifest.plan == "tensorflow":
        module = importlib.import_module("serving.engine.tensorflow")
        engine = module.TensorflowEngine(path, manifest.signatures, threads)
    else:
        raise InvalidInput(
            f"package asks for plan {manifest.plan!r}; this release runs {', '.join((*_LITERT, *_OPENVINO))} "
            "and tensorflow"
        )
    return engine
