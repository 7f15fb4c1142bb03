"""Which plans are tried, which are refused with numbers, and what it takes to give up precision."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.package import PlanReport
from contracts.signature import Signature, TensorSpec
from serving.codec.example import serialize
from serving.engine.opening import open_engine
from serving.prepare.choose import choose, fewest_threads
from serving.prepare.compare import FULL, REDUCED, Difference, compare, too_many_flips
from serving.prepare.plans import openvino_refuses
from tests.serving.prepare.conftest import MakeModel, Preparer

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed (pip install 'teal[openvino]')")
REDUCED_PLANS = {"litert-float16", "litert-int8", "openvino-bfloat16"}


def report(name: str, seconds: float, precision: str | None = None, status: str = "passed") -> PlanReport:
    return PlanReport(name, status, "fine", seconds_per_run={"1": seconds}, precision=precision)


def test_precision_is_given_up_only_for_speed() -> None:
    full, reduced = report("litert", 1.0), report("litert-int8", 0.98, "8-bit weights")
    assert choose([full, reduced])[0] == "litert"
    name, reports = choose([full, report("litert-int8", 0.5, "8-bit weights")])
    assert name == "litert-int8"
    assert "chosen with reduced precision (8-bit weights)" in reports[1].reason


def test_a_second_thread_has_to_be_worth_it() -> None:
    assert fewest_threads({1: {1: 1.0, 8: 8.0}, 2: {1: 0.95, 8: 7.8}}) == 1
    assert fewest_threads({1: {1: 1.0, 8: 8.0}, 2: {1: 0.6, 8: 4.2}}) == 2
    assert fewest_threads({1: {1: 1.0}, 2: {1: 3.0}}) == 1


def test_an_error_that_reduced_precision_may_make_is_too_big_otherwise() -> None:
    expected = {"y": np.array([[0.1, 0.9]], np.float32)}
    got = {"y": np.array([[0.11, 0.89]], np.float32)}
    assert compare(expected, got, REDUCED).wrong is None
    found = compare(expected, got, FULL)
    assert found.wrong is not None and "off by up to 0.01" in found.wrong
    assert found.max_rel_error == pytest.approx(0.01 / 0.9, rel=1e-3)


def test_too_many_turned_decisions_refuse_a_reduced_plan_and_are_only_counted_for_a_full_one() -> None:
    assert too_many_flips(Difference(argmax_flips=2), 100, FULL) is None
    assert too_many_flips(Difference(argmax_flips=1), 100, REDUCED) is None
    words = too_many_flips(Difference(argmax_flips=2), 100, REDUCED)
    assert words == "2 of 100 rows have their biggest value at another place, at most 1% may"


@pytest.mark.parametrize(
    ("dtype", "refused"), [("int64", True), ("string", True), ("int32", False), ("float32", False), ("bool", False)]
)
def test_openvino_is_not_asked_what_it_would_narrow(dtype: str, refused: bool) -> None:
    signature = Signature("s", (TensorSpec("x", dtype, (None,)),), (TensorSpec("y", "float32", (None,)),), False)
    assert (openvino_refuses((signature,)) is not None) == refused


@pytest.mark.tensorflow
def test_without_being_asked_nobody_gives_up_precision(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("conv"))
    assert {plan.name for plan in manifest.plans} == {"tensorflow", "litert", "openvino"}
    assert all(plan.precision is None for plan in manifest.plans)


@pytest.mark.tensorflow
def test_reduced_plans_are_measured_against_tensorflow(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("conv"), reduced_precision=True)
    plans = {plan.name: plan for plan in manifest.plans}
    assert set(plans) >= REDUCED_PLANS
    half, eighth = plans["litert-float16"], plans["litert-int8"]
    assert half.max_rel_error is not None and eighth.max_rel_error is not None
    assert 0 < half.max_rel_error < eighth.max_rel_error < 0.05
    assert eighth.tolerance == {"float32": (0.02, 0.05)}
    assert eighth.precision == "8-bit weights"
    served = prepared.output / (manifest.plan_report(manifest.plan).path or "")
    assert served.exists()
    kept = {"tensorflow", manifest.plan}
    assert {plan.name for plan in manifest.plans if plan.path is not None} == kept
    assert {path.name for path in (prepared.output / "plans").iterdir()} <= {
        "tensorflow",
        served.parent.name,
        served.name,
    }


@pytest.mark.tensorflow
def test_without_openvino_the_report_says_how_to_get_it(
    model: MakeModel, prepared: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.prepare.runtime_openvino.version", lambda: None)
    skipped = prepared(model("dense")).plan_report("openvino")
    assert (skipped.status, skipped.reason) == ("skipped", "openvino is not installed (pip install 'teal[openvino]')")


@pytest.mark.tensorflow
@needs_openvino
@pytest.mark.parametrize("name", ["several_signatures", "two_inputs_two_outputs", "sequences"])
def test_openvino_answers_as_tensorflow(name: str, model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model(name))
    found = manifest.plan_report("openvino")
    assert found.status in ("passed", "chosen"), found.reason
    assert found.rows_checked is not None and found.rows_checked > 20
    assert manifest.prepared_with["openvino"]


@needs_openvino
def test_openvino_is_loaded_without_what_would_send_its_use_home() -> None:
    loaded = "import sys, serving.engine.openvino; print(sys.modules['openvino_telemetry'])"
    # A process of its own: in this one a test may have imported openvino by itself.
    asked = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "None"


@pytest.mark.tensorflow
@needs_openvino
def test_two_names_for_one_function_are_one_model(model: MakeModel, tmp_path: Path) -> None:
    convert = importlib.import_module("serving.prepare.convert_openvino").convert
    one = (TensorSpec("image", "float32", (None, 64)),), (TensorSpec("output_0", "float32", (None, 10)),)
    signatures = tuple(Signature(name, *one, batched=True) for name in ("serving_default", "serve"))
    assert convert(model("dense"), tmp_path / "openvino", signatures) is None
    index = json.loads((tmp_path / "openvino/index.json").read_text())
    assert index["serve"] == index["serving_default"]
    assert len(list((tmp_path / "openvino").glob("*.bin"))) == 1


@pytest.mark.tensorflow
def test_a_package_for_openvino_is_refused_in_words_where_there_is_none(
    model: MakeModel, prepared: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = prepared(model("dense"))
    asked = PlanReport("openvino", "chosen", "", "plans/openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "serving.engine.openvino", raising=False)
    with pytest.raises(InvalidInput, match=r"OpenVINO is not installed where this worker runs: pip install"):
        open_engine(prepared.output, _with_plan(manifest, asked), threads=1)


def _with_plan(manifest: Any, asked: PlanReport) -> Any:
    return type(manifest)(**{**vars(manifest), "plan": asked.name, "plans": (*manifest.plans[:1], asked)})


@pytest.mark.tensorflow
def test_a_keras_model_that_tensorflow_saved_keeps_its_weights(model: MakeModel, prepared: Preparer) -> None:
    litert = prepared(model("keras_saved_plainly")).plan_report("litert")
    assert litert.status in ("passed", "chosen"), litert.reason


@pytest.mark.tensorflow
def test_classify_and_regress_run_and_a_missing_feature_is_the_callers_mistake(
    model: MakeModel, prepared: Preparer
) -> None:
    manifest = prepared(model("classify_and_regress"))
    assert {s.name: s.method_name for s in manifest.signatures} == {
        "serving_default": "tensorflow/serving/classify",
        "regress": "tensorflow/serving/regress",
    }
    engine = open_engine(prepared.output, manifest, threads=1)
    rows = np.array([_example({"x": [1.0, 2.0]}), _example({"x": [3.0, 0.0]})], object)
    scores = engine.run("serving_default", {"inputs": rows})
    assert scores["classes"].tolist() == [[b"left", b"right", b"both"]] * 2
    np.testing.assert_allclose(scores["scores"].sum(axis=1), 1, rtol=1e-5)
    assert engine.run("regress", {"inputs": rows})["outputs"].tolist() == [4.0, 4.0]
    with pytest.raises(InvalidInput) as refusal:
        engine.run("regress", {"inputs": np.array([_example({"y": [1.0]})], object)})
    assert refusal.value.message == (
        "the model refuses this input: Feature: x (data type: float) is required but could not be found."
    )
    with pytest.raises(InvalidInput, match="Could not parse example input"):
        engine.run("regress", {"inputs": np.array([b"garbage"], object)})


def _example(features: Mapping[str, list[float]]) -> bytes:
    return serialize(features)


_SHOW_MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from contracts.signature import Signature, TensorSpec
from serving.engine.litert import LitertEngine
units, path = int(sys.argv[1]), Path(sys.argv[2])
tensors = (TensorSpec("x", "float32", (None, units)),), (TensorSpec("y", "float32", (None, units)),)
engine = LitertEngine(path, (Signature("serving_default", *tensors, batched=True),), (1,), 1)
engine.run("serving_default", {"x": np.ones((1, units), np.float32)})
print("ready", flush=True)
sys.stdin.readline()
found, mine = {}, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    head = line.split()
    if "-" in head[0] and not head[0].endswith(":"):
        mine = line.endswith(str(path))
    elif mine and head[1].isdigit():
        found[head[0][:-1]] = found.get(head[0][:-1], 0) + int(head[1]) * 1024
print(json.dumps(found), flush=True)
"""


@pytest.mark.tensorflow
def test_replicas_of_a_litert_plan_share_the_pages_of_its_file(model: MakeModel, tmp_path: Path, zoo: Any) -> None:
    units = 1024  # 4 MB of weights
    zoo.wide(tmp_path / "wide", units)
    convert = importlib.import_module("serving.prepare.convert")
    file = tmp_path / "model.tflite"
    assert convert.convert(tmp_path / "wide", file, ("serving_default",)) is None
    command = [sys.executable, "-c", _SHOW_MEMORY, str(units), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    replicas = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        assert [p.stdout.readline() for p in replicas if p.stdout] == ["ready\n"] * 2
        told = [json.loads(p.communicate("go\n", timeout=60)[0]) for p in replicas[:1]]
    finally:
        for process in replicas:
            process.kill()
            process.communicate()
    assert told[0]["Size"] >= file.stat().st_size, told
    assert told[0]["Anonymous"] == 0, told  # nothing of the mapping was copied
    shared = told[0]["Shared_Clean"] + told[0]["Shared_Dirty"]  # dirty: just written, and not on the disk yet
    assert shared >= 0.9 * file.stat().st_size, told
