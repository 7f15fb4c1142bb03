"""The two models of the fault battery, made without training: what either must answer is a formula.

`quick` costs microseconds, so it is answered at once; `slow` answers the same after some milliseconds of convolutions
per row, so requests queue up for it.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.e2e.gateway import Gateway

WIDTH, CLASSES = 64, 10
WEIGHTS = (((np.arange(WIDTH)[:, None] * 7 + np.arange(CLASSES)[None, :] * 3) % 11 - 5) / 16).astype(np.float32)

_MAKE = """
import sys
import numpy as np
import tensorflow as tf

weights = tf.constant(np.load(sys.argv[1] + "/weights.npy"))
kernels = [tf.random.stateless_normal(s, seed=(1, i), stddev=0.1) for i, s in
           enumerate([(3, 3, 1, 32), *[(3, 3, 32, 32)] * int(sys.argv[2])])]
ROWS = tf.TensorSpec([None, 64], tf.float32, name="image")

def scores(image):
    return tf.matmul(image, weights)

def heavy(image):
    grid = tf.clip_by_value(tf.reshape(image, [-1, 8, 8, 1]), -1.0, 1.0)
    grid = tf.tile(grid, [1, 8, 8, 1])
    for kernel in kernels:
        grid = tf.nn.relu6(tf.nn.conv2d(grid, kernel, 1, "SAME"))
    return scores(image) + 1e-6 * tf.reduce_mean(grid, axis=[1, 2, 3])[:, None]

def served(formula):
    module = tf.Module()
    module.call = tf.function(lambda image: {"scores": formula(image)}, input_signature=[ROWS])
    return module

for name, module in (("quick", served(scores)), ("slow", served(heavy))):
    tf.saved_model.save(module, f"{sys.argv[1]}/{name}", signatures=module.call)
    converter = tf.lite.TFLiteConverter.from_saved_model(f"{sys.argv[1]}/{name}", signature_keys=["serving_default"])
    open(f"{sys.argv[1]}/{name}.tflite", "wb").write(converter.convert())
"""
_LAYERS = 16  # of 64x64x32 in `slow`: some ten milliseconds a row


def make(folder: Path) -> None:
    """Write `quick.tflite` and `slow.tflite` into `folder`: their workers start without TensorFlow."""
    np.save(folder / "weights.npy", WEIGHTS)
    command = [sys.executable, "-c", _MAKE, str(folder), str(_LAYERS)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-2000:]


def register(folder: Path, home: Path) -> None:
    """Register both, and `quick` a second time as version 2, in a home that no gateway runs on."""
    gateway = Gateway(home)
    samples = folder / "samples.npz"
    np.savez(samples, image=rows(*range(4)))
    for name in ("quick", "quick", "slow"):
        gateway.must("register", name, str(folder / f"{name}.tflite"), "--samples", str(samples), timeout=600)


def rows(*numbers: int) -> np.ndarray:
    """One row for each number, all different, float32 [n, 64] of small values."""
    return np.stack([((np.arange(WIDTH) * (n % 97 + 1) + n) % 29).astype(np.float32) / 29 for n in numbers])


def scores(image: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """What both models answer, float32 [n, 10]."""
    return np.asarray(image, np.float32) @ WEIGHTS


def right(answered: Sequence[Sequence[float]], image: np.ndarray) -> bool:
    """Whether these are the scores of these rows and of no others."""
    got = np.asarray(answered, np.float64)
    return got.shape == (len(image), CLASSES) and bool(np.allclose(got, scores(image), atol=1e-3))
