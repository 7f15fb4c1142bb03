"""Packages for tests of the real worker: a tiny model as SavedModel and .tflite, made once per test session by a child
process, because the worker under test must be able to prove that it never needed TensorFlow."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contracts.package import (
    MANIFEST,
    Lineage,
    Manifest,
    PlanReport,
    canonical_json,
    digest_of,
    list_files,
    manifest_to_json,
)
from contracts.signature import Signature, TensorSpec
from serving.engine.samples import Samples, write_samples

BUCKETS = (1, 2, 4, 8)

DENSE = Signature(
    "serving_default", (TensorSpec("image", "float32", (None, 3)),), (TensorSpec("scores", "float32", (None, 2)),), True
)
HALF = Signature("half", (TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (None,)),), True)

_MAKE = """
import sys, tensorflow as tf
class Model(tf.Module):
    def __init__(self):
        self.w = tf.Variable([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="image")])
    def dense(self, image):
        return {"scores": tf.matmul(image, self.w)}
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half(self, x):
        return {"y": x / 2 + 2}
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def upper(self, words):
        return {"shouted": tf.strings.upper(words)}
model, target = Model(), sys.argv[1]
numeric = {"serving_default": model.dense, "half": model.half}
tf.saved_model.save(model, target + "/numeric", signatures=numeric)
tf.saved_model.save(model, target + "/saved_model", signatures=numeric | {"upper": model.upper})
converter = tf.lite.TFLiteConverter.from_saved_model(target + "/numeric", signature_keys=list(numeric))
open(target + "/model.tflite", "wb").write(converter.convert())
"""

UPPER = Signature(
    "upper", (TensorSpec("words", "string", (None,)),), (TensorSpec("shouted", "string", (None,)),), batched=True
)


@dataclass(frozen=True)
class Package:
    root: Path
    digest: str


def make_models(target: Path) -> Path:
    """Write `saved_model/` and `model.tflite` of one model into `target`."""
    command = [sys.executable, "-c", _MAKE, str(target)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return target


def litert_package(models: Path, root: Path) -> Package:
    (root / "plans/litert").mkdir(parents=True)
    shutil.copy(models / "model.tflite", root / "plans/litert/model.tflite")
    return finish(root, "litert", "plans/litert/model.tflite", (DENSE, HALF), with_samples=True)


def tensorflow_package(models: Path, root: Path) -> Package:
    shutil.copytree(models / "saved_model", root / "plans/tensorflow")
    return finish(root, "tensorflow", "plans/tensorflow", (DENSE, HALF, UPPER), with_samples=False)


def finish(root: Path, plan: str, path: str, signatures: tuple[Signature, ...], *, with_samples: bool) -> Package:
    """Write the manifest of a package whose plan files are in place."""
    warmup = None
    if with_samples:
        warmup = "samples/warmup.npz"
        (root / "samples").mkdir()
        image = np.arange(9, dtype=np.float32).reshape(3, 3)
        write_samples(root / warmup, {"serving_default": Samples({"image": image}, {})})
    report = PlanReport(plan, "chosen", "the only one", path)
    manifest = Manifest(
        "savedmodel", "0" * 64, plan, (report,), signatures, BUCKETS, warmup, list_files(root), Lineage(), "now", {}
    )
    (root / MANIFEST).write_bytes(canonical_json(manifest_to_json(manifest)))
    return Package(root, digest_of(manifest))
