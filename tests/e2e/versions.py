"""Versions of one small model, each of which behaves or misbehaves in a stated way, and homes that have them.

They are LiteRT files made by one child process, and packages put on the shelf as `teal register` would: registering a
dozen of them for real would take minutes and prove what other tests prove.

    python -m tests.e2e.versions FOLDER        writes NAME.tflite for every behaviour
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from deploy.home import Home
from deploy.registry.staging import put_on_shelf, shelves_locked, staging
from deploy.store.at_home import open_store
from deploy.store.records import Version

FEATURES, CLASSES = 8, 3
POISON = 10.0  # in the first feature: the rows that `failing` versions fail on
SLOW_SECONDS = 0.008  # of one run of `steady`, on this machine; `slower` takes half as much again

SIGNATURE = Signature(
    "serving_default",
    (TensorSpec("x", "float32", (None, FEATURES)),),
    (TensorSpec("scores", "float32", (None, CLASSES)),),
    batched=True,
)


def bodies(poisoned: int = 0, *, of: int = 20, seed: int = 7) -> tuple[bytes, ...]:
    """200 predict requests of one row; `poisoned` in every `of` of them are rows that a failing version fails on."""
    rows = np.random.default_rng(seed).normal(size=(200, FEATURES))
    rows[:, 0] = [POISON if n % of < poisoned else min(value, 3.0) for n, value in enumerate(rows[:, 0])]
    return tuple(json.dumps({"instances": [row]}).encode() for row in np.round(rows, 4).tolist())


def make(folder: Path) -> Path:
    """Write the LiteRT file of every behaviour into `folder`."""
    command = [sys.executable, "-m", "tests.e2e.versions", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


def register(home: Path, files: Path, models: Mapping[str, Sequence[str]]) -> None:
    """Give `home` these models, each with versions 1, 2, … that behave as named."""
    place = Home(home)
    store = open_store(place, None)
    digests: dict[str, str] = {}
    try:
        for model, behaviours in models.items():
            for behaviour in behaviours:
                if behaviour not in digests:
                    digests[behaviour] = _package(place, files / f"{behaviour}.tflite")
                new = Version(model, 0, digests[behaviour], "litert", behaviour, time.time(), None)
                store.add_version(new, actor="test")
    finally:
        store.close()


def _package(home: Home, file: Path) -> str:
    with staging(home) as stage:
        (stage.package / "plans/litert").mkdir(parents=True)
        shutil.copy(file, stage.package / "plans/litert/model.tflite")
        report = PlanReport("litert", "chosen", "the only one", "plans/litert/model.tflite")
        files = list_files(stage.package)
        manifest = Manifest(
            "savedmodel", "0" * 64, "litert", (report,), (SIGNATURE,), (1, 4), None, files, Lineage(), "now", {}
        )
        (stage.package / MANIFEST).write_bytes(canonical_json(manifest_to_json(manifest)))
        with shelves_locked(home):
            put_on_shelf(home, stage.package, digest_of(manifest))
    return digest_of(manifest)


def behaviours(tf: Any) -> dict[str, Callable[[Any], Any]]:
    """What each version makes of rows [n, FEATURES]: scores [n, CLASSES]."""
    random = np.random.default_rng(7)
    weights = random.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    wide = tf.constant((random.normal(size=(256, 256)) / 16).astype(np.float32))

    def healthy(x: Any) -> Any:
        return tf.nn.softmax(tf.matmul(x, weights))

    def healthy_too(x: Any) -> Any:
        return tf.nn.softmax(tf.matmul(x, weights * 1.001))

    def failing(x: Any) -> Any:
        """Divides by zero in a poisoned row, in whole numbers, which LiteRT fails at."""
        divisor = tf.cast(x[:, :1] < POISON / 2, tf.int32)
        return healthy(x) + tf.cast(tf.math.floordiv(tf.ones_like(divisor) - 1, divisor), tf.float32)

    def failing_too(x: Any) -> Any:
        return failing(x * 1.001)

    def nan(x: Any) -> Any:
        return healthy(x) * tf.math.log(-tf.abs(x[:, :1]) - 1.0)

    def constant(x: Any) -> Any:
        return tf.nn.softmax(0.0 * tf.matmul(x, weights) + tf.constant([0.0, 0.0, 5.0]))

    def busy(rounds: int) -> Callable[[Any], Any]:
        def compute(x: Any) -> Any:
            y = tf.tile(x, [1, 256 // FEATURES])
            y = tf.reshape(tf.tile(y[:, None, :], [1, 128, 1]), [-1, 256])
            for _ in range(rounds):
                y = tf.nn.tanh(tf.matmul(y, wide))
            return healthy(x) + 0.0 * tf.reduce_mean(tf.reshape(y, [-1, 128 * 256]), axis=1, keepdims=True)

        return compute

    plain = (healthy, healthy_too, failing, failing_too, nan, constant)
    rounds = max(2, round(SLOW_SECONDS / _seconds_of_round(tf, busy)))
    return {each.__name__: each for each in plain} | {"steady": busy(rounds), "slower": busy(round(rounds * 1.5))}


def _seconds_of_round(tf: Any, busy: Callable[[int], Callable[[Any], Any]]) -> float:
    """How long this machine takes for one of the rounds that make a version busy: the best of many."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - beside TensorFlow, and only in this process

    interpreter = Interpreter(model_content=_converted(tf, busy(16)))
    given = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(given, [1, FEATURES])
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, np.ones((1, FEATURES), np.float32))
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begin)
    return min(times) / 16


def _converted(tf: Any, behave: Callable[[Any], Any]) -> bytes:
    serve = tf.function(
        lambda x: {"scores": behave(x)}, input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name="x")]
    )
    module = tf.Module()
    module.serve = serve
    made: bytes = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module).convert()
    return made


def main(folder: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415 - seconds and 400 MB, for this process alone

    folder.mkdir(parents=True, exist_ok=True)
    for name, behave in behaviours(tf).items():
        (folder / f"{name}.tflite").write_bytes(_converted(tf, behave))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
