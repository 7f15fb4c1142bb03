"""From a verified package to a loaded engine: the one place that knows which plan is which class."""

import importlib
import logging
from pathlib import Path

from contracts.errors import InvalidInput
from contracts.machine import cores
from contracts.package import Manifest
from contracts.signature import Signature
from contracts.sizing import Sizing, threads_for
from serving.engine.base import Engine

_log = logging.getLogger(__name__)

_LITERT = ("litert", "litert-float16", "litert-int8")
_OPENVINO = ("openvino", "openvino-bfloat16")

# From this size on a copy of the weights per replica costs more than the few microseconds of a call through buffers.
_SHARED_BYTES = 16 * 1024 * 1024


def sizing(manifest: Manifest, asked: int = 0, replicas: int = 1) -> Sizing:
    """Threads for the chosen plan on this machine, and why; see contracts.sizing."""
    measured = next((report.threads for report in manifest.plans if report.name == manifest.plan), None)
    return threads_for(asked=asked, measured=measured, cores=cores(), replicas=replicas)


def open_engine(package_root: Path, manifest: Manifest, threads: int, packed: Path | None = None) -> Engine:
    """Load the manifest's chosen plan; `threads` 0 leaves their number to `sizing`; `packed` is the folder where the
    version's workers share packed weights. Raises InvalidInput for a plan this release or this machine cannot run or
    that has no path; whatever the runtime raises on a broken model leaves as it is."""
    report = next((p for p in manifest.plans if p.name == manifest.plan), None)
    if report is None or report.path is None:
        raise InvalidInput(f"package names plan {manifest.plan!r} and holds no files for it: prepare it again")
    path = package_root / report.path
    threads = threads or sizing(manifest).count
    # Imported by name and late: a litert worker must never pay for TensorFlow (400 MB, seconds), nor the other way.
    if manifest.plan in _LITERT:
        weights = None
        if packed is not None and shareable(path, manifest.signatures):
            packing = importlib.import_module("serving.engine.packing")
            weights = packing.packed_weights(package_root, manifest, path, packed)
        engine = open_litert(path, manifest.signatures, manifest.buckets, threads, weights)
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


def open_litert(
    path: Path, signatures: tuple[Signature, ...], buckets: tuple[int, ...], threads: int, weights: Path | None = None
) -> Engine:
    """The class that serves a .tflite file: a fact of the file and its signatures alone, so that prepare checks what
    will serve."""
    if shareable(path, signatures):
        shared = importlib.import_module("serving.engine.litert_shared")
        try:
            engine: Engine = shared.SharedLitertEngine(path, signatures, buckets, threads, weights)
            return engine
        except (RuntimeError, ValueError) as error:  # a file without signatures, an operation it does not know
            _log.info("LiteRT does not compile this model, and interprets it: %s", error)
    interpreted: Engine = importlib.import_module("serving.engine.litert").LitertEngine(
        path, signatures, buckets, threads
    )
    return interpreted


def shareable(path: Path, signatures: tuple[Signature, ...]) -> bool:
    """Whether a .tflite file is big and plain enough for packed weights that replicas share: float32 throughout, rows
    the only open dimension. Strings, 64-bit integers and indices stay with the interpreter, which takes them all."""
    tensors = [(s, spec) for s in signatures for spec in (*s.inputs, *s.outputs)]
    return path.stat().st_size >= _SHARED_BYTES and all(
        s.batched and spec.dtype == "float32" and spec.shape is not None and None not in spec.shape[1:]
        for s, spec in tensors
    )
