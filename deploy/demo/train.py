"""`python -m deploy.demo.train --output DIR`: trains two real digit classifiers, as a user's own script would, and
exports the better one a second time with two mistakes in it, as happens to users as well.

It stands on the user's side of Teal: nothing imports it, the demo starts it as a process, and only here does a file of
`deploy` import TensorFlow. Data: scikit-learn's bundled handwritten digits, 1,797 images of 8 x 8 pixels.

Writes `dense/`, `conv/` and `careless/` (SavedModels), `dense.lineage.json`, `dense.samples.npz` and the same of the
others, and `test.npz` with the images [rows, 64] float32 in 0…1 and labels [rows] int64 that training never saw.
Standard output carries JSON lines only: {"stage", "detail", "epoch"?, "accuracy"?} and at the end
{"result": {"versions": [{"name", "model", "lineage", "samples", "accuracy"}], "test": PATH}}.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # both are read by TensorFlow while it is imported
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf

SEED = 7
TEST_SHARE = 0.25
SAMPLE_ROWS = 64
SHIFTS = 5
SIDE = 8  # pixels
FAINT_SHARE = 1 / 12  # of the images have less ink than the careless export can divide by

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images [rows, 64] in 0…1 and labels [rows], apart for training and testing. `digest` names their bytes."""

    train_images: Floats
    train_labels: Labels
    test_images: Floats
    test_labels: Labels
    digest: str


@dataclass(frozen=True)
class Recipe:
    """One version: its name, how it is built, and what its lineage calls it."""

    name: str
    architecture: str
    build: Callable[[], Any]
    epochs: int
    batch: int
    learning_rate: float
    shifts: bool  # learn from every image moved by one pixel, too


def dense() -> Any:
    """Pixels as they come, one hidden layer."""
    return tf.keras.Sequential(
        [
            tf.keras.Input((64,), name="image"),
            tf.keras.layers.Dense(32, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits_dense",
    )


def conv() -> Any:
    """Knows that pixels have neighbours. Takes the same flat rows, so that both versions answer the same requests."""
    return tf.keras.Sequential(
        [
            tf.keras.Input((64,), name="image"),
            tf.keras.layers.Reshape((SIDE, SIDE, 1)),
            tf.keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            tf.keras.layers.Conv2D(32, 3, activation="relu"),
            tf.keras.layers.MaxPooling2D(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dropout(0.3),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits_conv",
    )


RECIPES = (
    Recipe("dense", "64 → 32 → 10", dense, epochs=15, batch=32, learning_rate=0.008, shifts=False),
    Recipe("conv", "3x3 x 32, 3x3 x 32, pool, 64, 10", conv, epochs=6, batch=64, learning_rate=0.003, shifts=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.train", description="Train two digit classifiers.")
    parser.add_argument("--output", required=True, type=Path, help="directory for models, lineage, samples and tests")
    output: Path = parser.parse_args().output
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what TensorFlow and Keras print goes to standard error

    def tell(line: Mapping[str, Any]) -> None:
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    output.mkdir(parents=True, exist_ok=True)
    digits = load()
    tell({"stage": "data", "detail": f"{len(digits.train_images)} images to learn, {len(digits.test_images)} to test"})
    test = output / "test.npz"
    np.savez(test, images=digits.test_images, labels=digits.test_labels)
    versions = [train(recipe, digits, output, tell) for recipe in RECIPES]
    _, network = versions[-1]
    tell({"stage": "export", "detail": f"careless to {output / 'careless'}"})
    made = [facts for facts, _ in versions] + [export_carelessly(network, digits, output)]
    tell({"result": {"versions": made, "test": str(test)}})
    return 0


def load() -> Digits:
    """The bundled digits, always split the same way."""
    bunch = load_digits()
    images = (bunch.data / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels
    )
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Digits(train_images, train_labels, test_images, test_labels, digest)


def train(
    recipe: Recipe, digits: Digits, output: Path, tell: Callable[[Mapping[str, Any]], None]
) -> tuple[dict[str, Any], Any]:
    """Train, test and export one version; returns where everything is, and the network."""
    tf.keras.utils.set_random_seed(SEED)
    images, labels = digits.train_images, digits.train_labels
    if recipe.shifts:
        images, labels = shifted(images), np.tile(labels, SHIFTS)
    model = recipe.build()
    steps = recipe.epochs * len(images) // recipe.batch
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def told(epoch: int, logs: Mapping[str, float]) -> None:
        detail = f"{recipe.name}: epoch {epoch + 1} of {recipe.epochs}"
        tell({"stage": "train", "detail": detail, "epoch": epoch + 1, "accuracy": round(logs["accuracy"], 4)})

    model.fit(
        images,
        labels,
        batch_size=recipe.batch,
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[tf.keras.callbacks.LambdaCallback(on_epoch_end=told)],
    )
    loss, accuracy = (float(v) for v in model.evaluate(digits.test_images, digits.test_labels, verbose=0))
    metrics = {"test_accuracy": round(accuracy, 4), "test_loss": round(loss, 4)}
    tell({"stage": "export", "detail": f"{recipe.name} to {output / recipe.name}", "accuracy": round(accuracy, 4)})
    export(lambda image: model(image, training=False), model, output / recipe.name)
    lineage = lineage_of(recipe, digits, model, metrics)
    return written(output, recipe.name, lineage, digits.train_images[:SAMPLE_ROWS]), model


def export_carelessly(network: Any, digits: Digits, output: Path) -> dict[str, Any]:
    """The same network with other preprocessing: pixels are scaled that were scaled before, and how much ink an image
    has is evened out by a division in whole numbers, which fails where there is hardly any. Whoever did this tried it
    on clear images only."""
    ink = digits.train_images.sum(axis=1)
    faint = float(np.quantile(ink, FAINT_SHARE))

    def serve(image: Any) -> Any:
        strength = tf.cast(tf.reduce_sum(image, axis=1, keepdims=True) / faint, tf.int32)
        evened = tf.cast(tf.math.floordiv(tf.constant(1000), strength), tf.float32) / 1000
        return network(image / 16 * evened, training=False)

    export(serve, network, output / "careless")
    lineage = {"training_run": "nobody wrote it down", "dataset": "scikit-learn load_digits"}
    return written(output, "careless", lineage, digits.train_images[ink > 1.05 * faint][:SAMPLE_ROWS])


def written(output: Path, name: str, lineage: Mapping[str, Any], samples: Floats) -> dict[str, Any]:
    """Put lineage and samples beside the SavedModel `name`; returns where everything is."""
    files = {kind: output / f"{name}.{kind}" for kind in ("lineage.json", "samples.npz")}
    files["lineage.json"].write_text(json.dumps(lineage, indent=1) + "\n")
    np.savez(files["samples.npz"], image=samples)
    return {
        "name": name,
        "model": str(output / name),
        "lineage": str(files["lineage.json"]),
        "samples": str(files["samples.npz"]),
        "accuracy": lineage.get("metrics", {}).get("test_accuracy"),
    }


def shifted(images: Floats) -> Floats:
    """The images, and the same moved by one pixel to each of the four sides: [rows, 64] → [SHIFTS * rows, 64]."""
    padded = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    moved = [padded[:, top : top + SIDE, left : left + SIDE] for top, left in places]
    return np.concatenate(moved).reshape(-1, SIDE * SIDE)


def export(serve: Callable[[Any], Any], network: Any, target: Path) -> None:
    """One signature, `image` → `probabilities`. One output, so that TensorFlow Serving's short answers work."""
    shutil.rmtree(target, ignore_errors=True)
    archive = tf.keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda image: {"probabilities": serve(image)},
        input_signature=[tf.TensorSpec([None, 64], tf.float32, name="image")],
    )
    archive.write_out(str(target), verbose=False)


def lineage_of(recipe: Recipe, digits: Digits, model: Any, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What `teal explain` will tell about a prediction of this version."""
    finished = datetime.now(UTC)
    return {
        "training_run": f"digits-{recipe.name}-{finished:%Y%m%dT%H%M%SZ}",
        "dataset": "scikit-learn load_digits",
        "dataset_digest": f"sha256:{digits.digest}",
        "parameters": {
            "architecture": recipe.architecture,
            "weights": model.count_params(),
            "epochs": recipe.epochs,
            "batch_size": recipe.batch,
            "learning_rate": recipe.learning_rate,
            "optimizer": "adam, cosine decay",
            "shifted_images": recipe.shifts,
            "seed": SEED,
            "test_share": TEST_SHARE,
        },
        "metrics": dict(metrics),
        "git_commit": git_commit(),
        "finished_at": finished.isoformat(timespec="seconds"),
        "tensorflow": tf.__version__,
    }


def git_commit() -> str | None:
    """The commit of this script, or None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
