"""Replicas of a big LiteRT model hold one copy of its packed weights, and nothing that happens to the file of them
changes an answer."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from contracts.package import read_manifest
from contracts.signature import Signature, TensorSpec
from serving.engine.litert import LitertEngine
from serving.engine.opening import open_engine, open_litert, shareable
from tests.serving.packages import BUCKETS, DENSE, HALF, Package, finish

pytestmark = pytest.mark.tensorflow

UNITS = 2048  # 16 MB of weights: the smallest model that shares them
WIDE = Signature(
    "serving_default", (TensorSpec("x", "float32", (None, UNITS)),), (TensorSpec("y", "float32", (None, UNITS)),), True
)
_MAKE = """
import sys, numpy as np, tensorflow as tf
model, units = tf.Module(), int(sys.argv[2])
model.w = tf.Variable(np.random.default_rng(7).standard_normal((units, units), np.float32))
spec = tf.TensorSpec([None, units], tf.float32, name="x")
model.f = tf.function(lambda x: {"y": tf.matmul(x, model.w)}, input_signature=[spec])
tf.saved_model.save(model, sys.argv[1] + "/saved", signatures={"serving_default": model.f})
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + "/saved")
open(sys.argv[1] + "/model.tflite", "wb").write(converter.convert())
"""
_SHOW_MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from contracts.package import read_manifest
from serving.engine.opening import open_engine
root, folder = Path(sys.argv[1]), Path(sys.argv[2])
manifest = read_manifest(root)
engine = open_engine(root, manifest, 1, folder)
units = manifest.signatures[0].inputs[0].shape[1]
for rows in manifest.buckets:
    engine.warm(rows)
    engine.run("serving_default", {"x": np.ones((rows, units), np.float32)})
print("ready", flush=True)
sys.stdin.readline()
found, mine = {}, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    head = line.split()
    if "-" in head[0] and not head[0].endswith(":"):
        mine = line.endswith(".packed")
    elif head[1].isdigit():
        key = ("packed " if mine else "other ") + head[0][:-1]
        found[key] = found.get(key, 0) + int(head[1]) * 1024
print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Package:
    made = tmp_path_factory.mktemp("wide")
    subprocess.run([sys.executable, "-c", _MAKE, str(made), str(UNITS)], check=True, capture_output=True, timeout=300)
    root = made / "package"
    (root / "plans/litert").mkdir(parents=True)
    (made / "model.tflite").rename(root / "plans/litert/model.tflite")
    return finish(root, "litert", "plans/litert/model.tflite", (WIDE,), with_samples=False)


def file_of(package: Package) -> Path:
    return package.root / "plans/litert/model.tflite"


def packed_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "lock")


def check(package: Package, folder: Path) -> None:
    """The engine that shares gives the interpreter's answers, to the bit."""
    manifest = read_manifest(package.root)
    engine = open_engine(package.root, manifest, 1, folder)
    reference = LitertEngine(file_of(package), (WIDE,), manifest.buckets, 1)
    for rows in (1, 3, 8, 2):
        x = np.random.default_rng(rows).standard_normal((rows, UNITS), np.float32)
        answer = engine.run("serving_default", {"x": x})["y"]
        np.testing.assert_array_equal(answer, reference.run("serving_default", {"x": x})["y"])
    engine.close()


def test_two_replicas_that_start_at_once_hold_one_copy_of_the_packed_weights(wide: Package, tmp_path: Path) -> None:
    folder, weights = tmp_path / "packed", UNITS * UNITS * 4
    command = [sys.executable, "-c", _SHOW_MEMORY, str(wide.root), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    replicas = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        assert [p.stdout.readline() for p in replicas if p.stdout] == ["ready\n"] * 2
        told = json.loads(replicas[0].communicate("go\n", timeout=60)[0])
    finally:
        for process in replicas:
            process.kill()
            process.communicate()
    assert len(packed_in(folder)) == 1
    shared = told["packed Shared_Clean"] + told["packed Shared_Dirty"]  # dirty: just written, not on the disk yet
    assert shared >= weights, told
    assert told["packed Private_Clean"] + told["packed Private_Dirty"] < 0.1 * weights, told
    assert told["packed Anonymous"] == 0, told


def test_a_damaged_file_and_what_a_killed_process_left_are_replaced(wide: Package, tmp_path: Path) -> None:
    check(wide, tmp_path)
    (whole,) = packed_in(tmp_path)
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of one weight: XNNPACK itself would never know
    whole.chmod(0o600)
    whole.write_bytes(data)
    (tmp_path / "4711.part").write_bytes(b"half")
    check(wide, tmp_path)
    assert packed_in(tmp_path) == [whole]


def test_a_full_disk_costs_memory_and_not_the_worker(
    wide: Package, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _files_of_at_most(4 * 1024 * 1024):
        check(wide, tmp_path)
    assert packed_in(tmp_path) == []
    assert "every replica holds packed weights of its own: packing ended with code -6" in caplog.text


def test_a_folder_that_cannot_be_made_costs_memory_and_not_the_worker(wide: Package, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check(wide, tmp_path / "file" / "folder")


def test_small_models_and_those_with_other_dtypes_keep_the_interpreter(
    wide: Package, models: Path, tmp_path: Path
) -> None:
    assert isinstance(open_litert(models / "model.tflite", (DENSE, HALF), BUCKETS, 1), LitertEngine)
    numbers = (TensorSpec("x", "int64", (None,)),)
    assert not shareable(file_of(wide), (Signature("f", numbers, WIDE.outputs, batched=True),))
    assert not shareable(file_of(wide), (Signature("f", WIDE.inputs, WIDE.outputs, batched=False),))
    unnamed = Signature("not in the file", WIDE.inputs, WIDE.outputs, batched=True)
    with pytest.raises(ValueError, match="not in the file"):
        open_litert(file_of(wide), (unnamed,), BUCKETS, 1)


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Python ignores the signal for this limit, in its children, too: writing fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
