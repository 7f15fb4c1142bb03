"""Given a model somebody exported, a verified package comes out, or one sentence says why not and nothing is left."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import InvalidInput, NotFound
from contracts.package import MANIFEST, verify
from contracts.signature import TensorSpec
from serving.engine.opening import open_engine
from serving.engine.samples import read_samples
from serving.prepare import finish, plans
from tests.serving.prepare.conftest import MakeModel, Preparer

pytestmark = pytest.mark.tensorflow


def copy_of(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_a_keras_export_becomes_a_verified_litert_package(name: str, model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model(name))
    assert manifest.plan == "litert"
    assert manifest.buckets == (1, 2, 4, 8, 16, 32, 64)
    assert [s.name for s in manifest.signatures] == ["serving_default", "serve"]
    assert all(s.batched for s in manifest.signatures)
    assert manifest.signatures[0].inputs == (TensorSpec("image", "float32", (None, 64)),)
    litert, reference = manifest.plan_report("litert"), manifest.plan_report("tensorflow")
    assert (litert.status, reference.status) == ("chosen", "passed")
    assert litert.rows_checked is not None and litert.rows_checked > 100
    assert litert.max_abs_error is not None and litert.max_abs_error < 1e-4
    assert set(litert.seconds_per_run) == {"1", "2", "4", "8", "16", "32", "64"}
    assert {"tensorflow", "litert", "numpy", "python", "teal"} <= set(manifest.prepared_with)
    assert verify(prepared.output, prepared.result.digest) == manifest


def test_the_packages_own_samples_get_tensorflows_answers_from_the_chosen_plan(
    model: MakeModel, prepared: Preparer
) -> None:
    manifest = prepared(model("dense"))
    assert manifest.warmup is not None
    samples = read_samples(prepared.output / manifest.warmup)["serving_default"]
    engine = open_engine(prepared.output, manifest, threads=1)
    answer = engine.run("serving_default", samples.inputs)
    np.testing.assert_allclose(answer["output_0"], samples.outputs["output_0"], atol=1e-5)


def test_a_flipped_byte_in_any_kind_of_file_breaks_the_package(model: MakeModel, prepared: Preparer) -> None:
    prepared(model("dense"))
    for path in (plans.LITERT_PATH, f"{plans.TENSORFLOW_PATH}/saved_model.pb", finish.SAMPLES_PATH):
        file = prepared.output / path
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(InvalidInput, match=path):
            verify(prepared.output, prepared.result.digest)
        file.write_bytes(good)
    verify(prepared.output, prepared.result.digest)


def test_every_signature_of_a_tf_function_model_is_in_the_plan(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("several_signatures"))
    assert [s.name for s in manifest.signatures] == ["serving_default", "label"]
    assert [str(o) for o in manifest.signatures[1].outputs] == ["int64 [?]", "bool [?]"]
    assert manifest.plan == "litert", manifest.plans
    engine = open_engine(prepared.output, manifest, threads=1)
    assert engine.run("label", {"x": np.ones((3, 4), np.float32)})["sure"].tolist() == [True] * 3


def test_two_inputs_and_two_outputs_keep_their_names(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("two_inputs_two_outputs"))
    signature = manifest.signatures[0]
    assert {i.name: str(i) for i in signature.inputs} == {"left": "float32 [?, 3]", "count": "int32 [?]"}
    assert signature.batched
    engine = open_engine(prepared.output, manifest, threads=1)
    inputs = {"left": np.ones((5, 3), np.float32), "count": np.arange(5, dtype=np.int32)}
    assert engine.run("serving_default", inputs)["twice"].tolist() == [0, 2, 4, 6, 8]


def test_a_text_model_runs_on_tensorflow_and_the_report_says_why(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("text"))
    assert manifest.plan == "tensorflow"
    litert = manifest.plan_report("litert")
    assert litert.status == "failed"
    assert "no built-in operation for" in litert.reason and "StringUpper" in litert.reason
    assert litert.path is None and not (prepared.output / "plans/litert").exists()
    assert manifest.signatures[0].batched
    samples = read_samples(prepared.output / finish.SAMPLES_PATH)["serving_default"]
    assert samples.outputs["upper"][0] == samples.inputs["words"][0].upper()


def test_a_vocabulary_from_the_models_assets_is_welcome(zoo: Any, tmp_path: Path, prepared: Preparer) -> None:
    zoo.vocabulary(tmp_path / "vocabulary", tmp_path)
    manifest = prepared(tmp_path / "vocabulary")
    assert any(f.path == f"{plans.TENSORFLOW_PATH}/assets/words.txt" for f in manifest.files)


@pytest.mark.parametrize("name", ["leaky_rows", "quietly_leaky_rows"])
def test_rows_that_influence_each_other_are_found_out(name: str, model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model(name))
    assert not manifest.signatures[0].batched
    assert manifest.buckets == (1,)
    assert 'rows of "serving_default" are not joined' in manifest.plan_report("tensorflow").reason


def test_a_fixed_first_dimension_is_not_batched(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("fixed_rows"))
    assert (manifest.signatures[0].batched, manifest.buckets) == (False, (1,))
    assert "fixed first dimension of 1" in manifest.plan_report("tensorflow").reason


def test_open_time_steps_are_checked_at_more_than_one_length(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("sequences"))
    assert manifest.signatures[0].batched
    assert manifest.plan == "litert", manifest.plans
    engine = open_engine(prepared.output, manifest, threads=1)
    assert engine.run("serving_default", {"tokens": np.zeros((2, 5), np.int32)})["mean"].shape == (2, 4)


def test_a_model_nothing_made_up_fits_is_served_unchecked_and_says_so(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("examples"))
    assert (manifest.plan, manifest.buckets, manifest.warmup) == ("tensorflow", (1,), None)
    assert "give --samples" in manifest.plan_report("tensorflow").reason


def test_a_tensorflow_1_model_is_prepared(model: MakeModel, prepared: Preparer) -> None:
    manifest = prepared(model("tensorflow_1"))
    assert manifest.signatures[0].batched
    engine = open_engine(prepared.output, manifest, threads=1)
    assert engine.run("serving_default", {"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[4.0, 4.0]] * 2


# Keras 3.15 copies variables in a way numpy 2 warns about; nothing of ours is in that call.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_keras_file_becomes_a_package(zoo: Any, tmp_path: Path, prepared: Preparer) -> None:
    zoo.keras_dense().save(tmp_path / "model.keras")
    manifest = prepared(tmp_path / "model.keras")
    assert (manifest.source_kind, manifest.plan) == ("keras", "litert")
    assert not any(f.path.startswith(".") for f in manifest.files)


def test_a_version_directory_gives_its_highest_version(model: MakeModel, tmp_path: Path, prepared: Preparer) -> None:
    shutil.copytree(model("conv"), tmp_path / "versions" / "9")
    shutil.copytree(model("dense"), tmp_path / "versions" / "10")
    manifest = prepared(tmp_path / "versions")
    direct = Preparer(tmp_path / "direct")(model("dense"))
    assert manifest.source_digest == direct.source_digest


def test_samples_and_lineage_travel_into_the_package(model: MakeModel, tmp_path: Path, prepared: Preparer) -> None:
    images = np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 64)
    np.savez(tmp_path / "samples.npz", image=images)
    (tmp_path / "lineage.json").write_text(json.dumps({"training_run": "r1", "metrics": {"acc": 0.9}, "who": "me"}))
    manifest = prepared(model("dense"), tmp_path / "samples.npz", tmp_path / "lineage.json")
    kept = read_samples(prepared.output / finish.SAMPLES_PATH)["serving_default"]
    np.testing.assert_array_equal(kept.inputs["image"], images)
    assert (manifest.lineage.training_run, manifest.lineage.notes) == ("r1", {"who": "me"})
    assert manifest.signatures[0].batched


def test_one_given_row_of_a_leaky_model_does_not_hide_the_leak(
    model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    np.savez(tmp_path / "samples.npz", x=np.ones((1, 4), np.float32))
    assert not prepared(model("leaky_rows"), tmp_path / "samples.npz").signatures[0].batched


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("reads_a_file", "ReadFile"),
        ("calls_python", "EagerPyFunc"),
        ("prints_into_a_file", "PrintV2"),
        ("saves_while_serving", "SaveV2"),
        ("looks_up_in_any_file", "InitializeTableFromTextFileV2"),
    ],
)
def test_a_model_that_reaches_out_is_refused_before_it_is_loaded(
    name: str, op: str, model: MakeModel, prepared: Preparer
) -> None:
    with pytest.raises(InvalidInput, match=f"op {op}, node ") as refusal:
        prepared(model(name))
    assert "function" in refusal.value.message
    assert prepared.runtimes == 0
    assert list(prepared.output.iterdir()) == []


def test_a_keras_file_with_python_code_in_it_is_refused_before_keras_sees_it(
    zoo: Any, tmp_path: Path, prepared: Preparer
) -> None:
    zoo.keras_lambda(tmp_path / "model.keras")
    with pytest.raises(InvalidInput, match="Lambda carries code"):
        prepared(tmp_path / "model.keras")
    assert prepared.runtimes == 0


def test_a_truncated_model_is_refused_and_nothing_is_left(model: MakeModel, tmp_path: Path, prepared: Preparer) -> None:
    copy = copy_of(model("dense"), tmp_path)
    whole = (copy / "saved_model.pb").read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (copy / "saved_model.pb").write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"saved_model\.pb"):
            prepared(copy)
        assert list(prepared.output.iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("variables/variables.index", "variables.index is missing"),
        ("variables/variables.data-00000-of-00001", "got 0: the model is half-written"),
        ("variables", "variables.index is missing"),
    ],
)
def test_missing_variables_are_named(
    missing: str, words: str, model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    copy = copy_of(model("dense"), tmp_path)
    gone = copy / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(InvalidInput, match=words):
        prepared(copy)
    assert prepared.runtimes == 0


def test_truncated_variables_are_refused_by_tensorflow_itself(
    model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    copy = copy_of(model("dense"), tmp_path)
    data = copy / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-2000])
    with pytest.raises(InvalidInput, match="TensorFlow does not load it"):
        prepared(copy)
    assert not (prepared.output / MANIFEST).exists()


def test_a_source_that_does_not_exist_is_not_found(tmp_path: Path, prepared: Preparer) -> None:
    with pytest.raises(NotFound, match="no such file"):
        prepared(tmp_path / "nowhere")


def test_samples_that_do_not_fit_are_refused_before_tensorflow_is_imported(
    model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    np.savez(tmp_path / "samples.npz", image=np.zeros((2, 63), np.float32))
    with pytest.raises(InvalidInput, match=r'input "image": expected float32 \[\?, 64\], got float32 \[2, 63\]'):
        prepared(model("dense"), tmp_path / "samples.npz")
    assert prepared.runtimes == 0
