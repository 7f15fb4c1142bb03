"""The models that benchmarks serve: made from fixed seeds, once, and kept under .bench/models.

Making one happens in a process of its own, because whoever measures must not hold TensorFlow in memory.

    python -m loadtests.models NAME FOLDER
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SEED = 7
WIDE_ROWS, WIDE_COLUMNS = 400_000, 128  # float32: 204.8 MB


def folder_of(name: str) -> Path:
    """The folder with what `python -m loadtests.models` makes of `name`, made now if it is the first time."""
    kept = ROOT / ".bench" / "models" / f"tensorflow-{version('tensorflow')}" / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as draft:
            target = Path(draft, name)
            command = [sys.executable, "-m", "loadtests.models", name, str(target)]
            made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
            if made.returncode:
                raise RuntimeError(f"making model {name} failed: {made.stderr[-2000:]}")
            target.rename(kept)  # whole or not at all
    return kept


def mobilenet(keras: Any) -> Any:
    """MobileNetV2, 224 by 224 float32, as published; random weights compute as long as trained ones."""
    return keras.applications.MobileNetV2(weights=None, input_shape=(224, 224, 3))


def middle(keras: Any) -> Any:
    """Three layers of 2048: a run reads 34 MB of weights, for one row as for many. Here batching pays."""
    pixels = keras.Input((64,), name="pixels")
    x = pixels
    for _ in range(3):
        x = keras.layers.Dense(2048, activation="relu")(x)
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax")(x))


def heavy(keras: Any) -> Any:
    """64 numbers → an image made of them → MobileNetV2, the widest: about 10 ms a row for a request of a few hundred
    bytes, so that sending too much costs little beside computing."""
    pixels = keras.Input((64,), name="pixels")
    image = keras.layers.UpSampling2D(28)(keras.layers.Reshape((8, 8, 1))(pixels))
    image = keras.layers.Concatenate()([image] * 3)
    network = keras.applications.MobileNetV2(weights=None, input_shape=(224, 224, 3), alpha=1.4)
    return keras.Model(pixels, network(image))


def wide(keras: Any) -> Any:
    """Sixteen ids → 200 MB of weights, of which a row touches a few kB: loading is all it costs."""
    ids = keras.Input((16,), dtype="int32", name="ids")
    rows = keras.layers.Embedding(WIDE_ROWS, WIDE_COLUMNS)(ids)
    return keras.Model(ids, keras.layers.Dense(8)(keras.layers.GlobalAveragePooling1D()(rows)))


KERAS: dict[str, Callable[[Any], Any]] = {"mobilenet": mobilenet, "middle": middle, "heavy": heavy, "wide": wide}
DIGITS = "digits"  # the demo's: SavedModels `dense` and `conv` with samples and lineage beside them


def make(name: str, target: Path) -> None:
    """Write SavedModel `name`, or the demo's trained digits, to `target`. `wide-2` is `wide` with other weights."""
    if name == DIGITS:
        subprocess.run([sys.executable, "-m", "deploy.demo.train", "--output", str(target)], check=True, timeout=600)
        return
    import keras  # noqa: PLC0415 - seconds and 400 MB, for this process alone

    kind, _, number = name.partition("-")
    keras.utils.set_random_seed(SEED + int(number or 0))
    KERAS[kind](keras).export(str(target), verbose=False)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
