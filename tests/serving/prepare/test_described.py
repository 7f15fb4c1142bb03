"""What MLflow says about a model is used where it fits and noted where it does not; it never fails a registration."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import InvalidInput, Unsupported
from contracts.signature import Signature, TensorSpec
from serving.engine.samples import read_samples
from serving.prepare import layout, mlmodel, source
from serving.prepare.described import describe
from serving.prepare.source import Source
from tests.serving.prepare.conftest import MakeModel, Preparer

ROWS = [[float(n)] * 64 for n in range(5)]
TENSOR = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 64]}}])
IMAGE = Signature("serving_default", (TensorSpec("image", "float32", (None, 64)),), (), False, "predict")
TWO = Signature(
    "serving_default", (TensorSpec("age", "float32", (None, 1)), TensorSpec("name", "string", (None,))), (), False, "p"
)


def described(root: Path, example: Any = None, file: str = "input_example.json", **told: Any) -> Path:
    """An MLflow directory as mlflow.tensorflow.log_model leaves it, without the model."""
    flavors = told.pop("flavors", {"tensorflow": {"saved_model_dir": "tf2model", "model_type": "tf2-module"}})
    facts = {"flavors": {"python_function": {}, **flavors}, "run_id": "4f5e", "mlflow_version": "3.17.2", **told}
    if example is not None:
        facts["saved_input_example_info"] = {"artifact_path": file}
        root.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(example if isinstance(example, str) else json.dumps(example))
    root.mkdir(parents=True, exist_ok=True)
    (root / "MLmodel").write_text(json.dumps(facts))  # JSON is YAML
    return root


def found_in(root: Path) -> Source:
    told = mlmodel.parse((root / "MLmodel").read_bytes(), str(root))
    return Source(layout.KIND_SAVED_MODEL, root / "tf2model", told, root)


@pytest.mark.tensorflow
def test_a_logged_savedmodel_is_prepared_with_its_example_and_its_story(
    model: MakeModel, tmp_path: Path, prepared: Preparer
) -> None:
    place = described(tmp_path / "logged", ROWS, signature={"inputs": TENSOR})
    shutil.copytree(model("dense"), place / "tf2model")
    manifest = prepared(place)
    assert manifest.source_kind == "saved_model"
    assert manifest.lineage.training_run == "4f5e"
    assert manifest.lineage.notes["mlflow"]["mlflow_version"] == "3.17.2"
    reason = manifest.plan_report("tensorflow").reason
    assert 'the input example of MLflow is the sample of "serving_default"' in reason
    assert manifest.warmup is not None
    kept = read_samples(prepared.output / manifest.warmup)["serving_default"]
    assert kept.inputs["image"].tolist() == ROWS
    assert prepared.result.source == str(place)


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3 on numpy 2
def test_a_logged_keras_model_with_an_example_it_cannot_take_is_prepared_all_the_same(
    zoo: Any, tmp_path: Path, prepared: Preparer
) -> None:
    place = described(tmp_path / "logged", [["text"]], flavors={"tensorflow": {"data": "data", "model_type": "keras"}})
    (place / "data").mkdir()
    zoo.keras_dense().save(place / "data/model.keras")
    (place / "data/global_custom_objects.cloudpickle").write_bytes(b"never to be loaded")
    manifest = prepared(place)
    assert manifest.source_kind == "keras"
    assert "input example of MLflow does not fit and was left out" in manifest.plan_report("tensorflow").reason


@pytest.mark.parametrize(
    ("file", "example"),
    [
        ("input_example.json", ROWS),
        ("input_example.json", {"image": ROWS}),
        ("input_example.json", [{"image": row} for row in ROWS]),
        ("input_example.json", {"columns": list(range(64)), "data": ROWS}),
        ("serving_input_example.json", {"inputs": ROWS}),
        ("serving_input_example.json", {"inputs": {"image": ROWS}}),
        ("serving_input_example.json", {"dataframe_split": {"columns": list(range(64)), "data": ROWS}}),
    ],
)
def test_every_form_of_an_example_is_read(file: str, example: Any, tmp_path: Path) -> None:
    known = describe(found_in(described(tmp_path, example, file)), (IMAGE,))
    assert known.notes == ()
    assert known.given["serving_default"].calls[0]["image"].tolist() == ROWS


def test_columns_of_a_table_are_inputs_where_they_have_their_names(tmp_path: Path) -> None:
    table = {"columns": ["name", "age"], "data": [["ada", 36], ["bob", 7.5]]}
    known = describe(found_in(described(tmp_path, table)), (TWO,))
    call = known.given["serving_default"].calls[0]
    assert (call["age"].tolist(), call["name"].tolist()) == ([[36.0], [7.5]], [b"ada", b"bob"])


@pytest.mark.parametrize(
    "example",
    [
        "{",
        "[",
        "null",
        "[]",
        "7",
        '"x"',
        "[[1, 2]]",
        '{"columns": [1], "data": [[]]}',
        '{"inputs": {"other": 1}}',
        "NaN",
    ],
)
def test_a_bad_example_is_a_note(example: str, tmp_path: Path) -> None:
    known = describe(found_in(described(tmp_path, example)), (IMAGE,))
    assert known.given == {}
    assert len(known.notes) == 1
    assert "does not fit and was left out" in known.notes[0]


def test_a_signature_that_says_something_else_is_a_note(tmp_path: Path) -> None:
    declared = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 28, 28]}}])
    known = describe(found_in(described(tmp_path, signature={"inputs": declared})), (IMAGE,))
    assert known.notes == (
        'MLflow\'s signature says float64 [?, 28, 28] for input "image", the model takes float32 [?, 64]',
    )


@pytest.mark.parametrize(
    ("flavors", "words"),
    [
        (
            {"sklearn": {"pickled_model": "model.pkl"}},
            "got python_function, sklearn: others hold Python code or pickles",
        ),
        (
            {"tensorflow": {"saved_model_dir": "tf", "meta_graph_tags": ["train"]}},
            'tags train, expected one with "serve"',
        ),
        ({"tensorflow": {"data": "data", "save_format": "h5"}}, "HDF5 models are not read"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(flavors: Any, words: str, tmp_path: Path) -> None:
    place = described(tmp_path, flavors=flavors)
    (place / "data").mkdir()
    (place / "data/model.h5").touch()
    with pytest.raises(Unsupported, match=words):
        source.recognise(str(place))


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b", 7, ["x"]])
def test_a_path_out_of_the_model_is_refused(path: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected a path inside the model"):
        source.recognise(str(described(tmp_path, flavors={"tensorflow": {"saved_model_dir": path}})))


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a: [", b"- 1", b"flavors: 3", b"!!python/object/apply:os.system [ls]"])
def test_what_is_no_mlmodel_is_refused_and_never_run(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_bytes(text)
    with pytest.raises(InvalidInput, match="MLmodel"):
        source.recognise(str(tmp_path))
