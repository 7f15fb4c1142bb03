"""Both engines keep the same promises; they are asked the same questions."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from serving.engine import litert
from serving.engine.base import Engine
from serving.engine.litert import LitertEngine, bucket_for
from serving.engine.litert_shared import SharedLitertEngine
from serving.engine.tensorflow import TensorflowEngine
from serving.prepare.runtime_openvino import convert_openvino
from tests.serving.packages import BUCKETS, DENSE, HALF, UPPER

pytestmark = pytest.mark.tensorflow

IMAGE = np.arange(24, dtype=np.float32).reshape(8, 3)
SCORES = IMAGE @ np.array([[1, 0], [0, 1], [1, 1]], np.float32)


@pytest.fixture(params=["litert", "litert sharing one interpreter", "litert sharing weights", "openvino", "tensorflow"])
def engine(request: pytest.FixtureRequest, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    if request.param == "tensorflow":
        return TensorflowEngine(models / "saved_model", (DENSE, HALF), 1)
    if request.param == "openvino":
        # Asked without importing: our own engine has to be the first to, so that nothing is sent home.
        if find_spec("openvino") is None:
            pytest.skip("openvino is not installed (pip install 'teal[openvino]')")
        assert convert_openvino(models / "numeric", tmp_path / "openvino", (DENSE, HALF)) is None
        opened: Engine = import_module("serving.engine.openvino").OpenvinoEngine(
            tmp_path / "openvino", (DENSE, HALF), 1
        )
        return opened
    if request.param == "litert sharing weights":
        return SharedLitertEngine(models / "model.tflite", (DENSE, HALF), BUCKETS, 1, tmp_path / "weights")
    if "sharing" in request.param:
        monkeypatch.setattr("serving.engine.litert._PACKED_BYTES", 0)
    return LitertEngine(models / "model.tflite", (DENSE, HALF), BUCKETS, 1)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_every_number_of_rows_up_to_the_biggest_bucket_is_computed(engine: Engine, rows: int) -> None:
    engine.warm(8)
    outputs = engine.run("serving_default", {"image": IMAGE[:rows]})
    assert list(outputs) == ["scores"]
    np.testing.assert_allclose(outputs["scores"], SCORES[:rows])


def test_the_answers_survive_the_next_run(engine: Engine) -> None:
    first = engine.run("serving_default", {"image": IMAGE[:3]})["scores"]
    engine.run("serving_default", {"image": np.zeros((4, 3), np.float32)})
    engine.run("serving_default", {"image": np.zeros((3, 3), np.float32)})
    np.testing.assert_allclose(first, SCORES[:3])


def test_signatures_do_not_disturb_each_other(engine: Engine) -> None:
    for rows in (1, 3, 2):
        half = engine.run("half", {"x": np.arange(rows, dtype=np.float32)})["y"]
        np.testing.assert_allclose(half, np.arange(rows) / 2 + 2)
        np.testing.assert_allclose(engine.run("serving_default", {"image": IMAGE[:rows]})["scores"], SCORES[:rows])


def test_read_only_inputs_are_fine(engine: Engine) -> None:
    rows = np.frombuffer(IMAGE[:3].tobytes(), np.float32).reshape(3, 3)
    np.testing.assert_allclose(engine.run("serving_default", {"image": rows})["scores"], SCORES[:3])


def test_a_missing_signature_is_said_when_the_model_is_opened(models: Path) -> None:
    with pytest.raises(ValueError, match="upper"):
        LitertEngine(models / "model.tflite", (UPPER,), BUCKETS, 1)
    with pytest.raises(ValueError, match="no signature half_"):
        TensorflowEngine(models / "saved_model", (HALF.__class__("half_", (), (), True),), 1)


def test_strings_are_bytes_in_and_out(models: Path) -> None:
    engine = TensorflowEngine(models / "saved_model", (UPPER,), 1)
    outputs = engine.run("upper", {"words": np.array([b"hi", "é".encode()], object)})
    assert outputs["shouted"].tolist() == [b"HI", "é".encode()]


def test_more_rows_than_the_biggest_bucket_are_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match="split it first"):
        bucket_for(9, BUCKETS)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The interpreters that were made from here on."""
    made: list[str] = []
    interpreter = litert.Interpreter

    def count(model_path: str, num_threads: int) -> litert.Interpreter:
        made.append(model_path)
        return interpreter(model_path=model_path, num_threads=num_threads)

    monkeypatch.setattr(litert, "Interpreter", count)
    return made


def test_signatures_share_the_interpreter_of_a_bucket(models: Path, opened: list[str]) -> None:
    engine = LitertEngine(models / "model.tflite", (DENSE, HALF), BUCKETS, 1)
    for bucket in BUCKETS:
        engine.warm(bucket)
    assert len(opened) == len(BUCKETS)
    for rows in (8, 3, 8):
        np.testing.assert_allclose(engine.run("serving_default", {"image": IMAGE[:rows]})["scores"], SCORES[:rows])
        assert engine.run("half", {"x": np.ones(rows, np.float32)})["y"].tolist() == [2.5] * rows
    assert len(opened) == len(BUCKETS)


def test_two_orders_of_one_signatures_tensors_do_not_change_each_others_shapes(
    models: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = litert.entry
    monkeypatch.setattr(litert, "entry", lambda interpreter, name: entry(interpreter, name.removesuffix(" again")))
    without_output = replace(DENSE, name="serving_default again", outputs=())
    twin = replace(DENSE, name="serving_default again again")
    engine = LitertEngine(models / "model.tflite", (DENSE, without_output), (8,), 1)
    assert len(opened) == 2
    assert engine.run(without_output.name, {"image": IMAGE[:2]}) == {}
    np.testing.assert_allclose(engine.run(DENSE.name, {"image": IMAGE})["scores"], SCORES)
    assert len(opened) == 2
    opened.clear()
    monkeypatch.setattr(litert, "entry", lambda interpreter, name: entry(interpreter, DENSE.name))
    engine = LitertEngine(models / "model.tflite", (DENSE, twin), (8,), 1)
    for name in (DENSE.name, twin.name):
        np.testing.assert_allclose(engine.run(name, {"image": IMAGE})["scores"], SCORES)
    assert len(opened) == 1
