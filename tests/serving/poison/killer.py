"""A model that really ends its process: TensorFlow Lite computes an int32 remainder with the processor's own division,
and on x86 the smallest integer divided by -1 is a trap (SIGFPE, seen with ai-edge-litert 2.3). TensorFlow answers 0.

Every other input comes back as it went in.
"""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contracts.signature import Signature, TensorSpec
from tests.serving.packages import Package, finish

DEADLY = -(2**31)
ECHO = Signature(
    "serving_default", (TensorSpec("x", "int32", (None, 1)),), (TensorSpec("y", "int32", (None, 1)),), batched=True
)

only_where_it_kills = pytest.mark.skipif(platform.machine() != "x86_64", reason="the division traps on x86 only")

_MAKE = """
import sys, tensorflow as tf
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.int32, name="x")])
    def echo(self, x):
        return {"y": x + tf.math.floormod(x, -1)}
model, target = Model(), sys.argv[1]
tf.saved_model.save(model, target + "/killer", signatures={"serving_default": model.echo})
open(target + "/killer.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model(target + "/killer").convert())
"""


def make_killer(target: Path) -> Path:
    """Write the SavedModel `killer/` and `killer.tflite` into `target`."""
    command = [sys.executable, "-c", _MAKE, str(target)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return target


def killer_package(made: Path, root: Path) -> Package:
    (root / "plans/litert").mkdir(parents=True)
    (root / "plans/litert/model.tflite").write_bytes((made / "killer.tflite").read_bytes())
    return finish(root, "litert", "plans/litert/model.tflite", (ECHO,), with_samples=False)


def rows(*values: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {"x": np.array(values, np.int32).reshape(-1, 1)}
