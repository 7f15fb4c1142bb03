"""Row C10: once every bucket is warm, no number of rows makes a runtime plan, trace or compile anything again."""

from pathlib import Path

import numpy as np
import pytest
from tensorflow.python.framework import func_graph

from serving.engine.litert import LitertEngine, _Run
from serving.engine.tensorflow import TensorflowEngine
from tests.serving.packages import BUCKETS, DENSE, HALF

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the graphs that TensorFlow traces from now on."""
    made: list[str] = []
    build = func_graph.FuncGraph.__init__

    def counting(self: func_graph.FuncGraph, name: str, *args: object, **kwargs: object) -> None:
        made.append(name)
        build(self, name, *args, **kwargs)

    monkeypatch.setattr(func_graph.FuncGraph, "__init__", counting)
    return made


def sweep(engine: LitertEngine | TensorflowEngine) -> None:
    for rows in [*range(1, BUCKETS[-1] + 1), *range(BUCKETS[-1], 0, -1)]:
        engine.run("serving_default", {"image": np.ones((rows, 3), np.float32)})
        engine.run("half", {"x": np.ones(rows, np.float32)})


def test_tensorflow_traces_nothing_whatever_the_number_of_rows(models: Path, graphs: list[str]) -> None:
    engine = TensorflowEngine(models / "saved_model", (DENSE, HALF), 1)
    loaded = len(graphs)
    sweep(engine)
    assert loaded > 0, "loading builds graphs, so the count is alive"
    assert len(graphs) == loaded
    engine.close()


def test_litert_plans_its_memory_once_for_each_bucket_and_signature(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LitertEngine(models / "model.tflite", (DENSE, HALF), BUCKETS, 1)
    for bucket in BUCKETS:
        engine.warm(bucket)
    planned: list[object] = []
    monkeypatch.setattr(_Run, "allocate", lambda self, shapes: planned.append(shapes))
    sweep(engine)
    assert planned == []
    engine.close()
