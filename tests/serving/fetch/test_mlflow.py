"""A model that MLflow keeps is found by version, alias, run or id, with what is known about its training; over its REST
server, in a database, and in a directory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import Unsupported
from contracts.fetch import FetchSpec
from serving.fetch.fetch import fetch
from serving.prepare.source import recognise
from tests.fakes.mlflow_store import COMMIT
from tests.serving.fetch.conftest import files

ROOT = Path(__file__).resolve().parents[3]
MLMODEL = """
flavors:
  python_function: {data: tf2model, loader_module: mlflow.tensorflow}
  tensorflow: {code: null, model_type: tf2-module, saved_model_dir: tf2model}
mlflow_version: 3.17.2
saved_input_example_info: {artifact_path: input_example.json, type: ndarray}
"""
SOURCES = (
    "models:/digits/1",
    "models:/digits@champion",
    "models:/digits/2",
    "models:/digits/latest",
    "models:/{logged_model}",
    "runs:/{run}/model",
    "runs:/{run}/net",
    "models:/forest/1",
    "models:/nobody/1",
    "models:/digits@nobody",
    "runs:/{run}/nothing",
    "models:/digits",
)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "GIT_PYTHON_REFRESH": "quiet"}


def python(place: Path, *words: str) -> str:
    """MLflow keeps artifacts of a database below the directory it was called in."""
    ran = subprocess.run(
        [sys.executable, *words], cwd=place, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def server(place: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests/fakes/mlflow_server.py"),
            str(place / "server.db"),
            str(place / "artifacts"),
        ],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def store(kind: str, place: Path) -> Iterator[str]:
    if kind == "server":
        with server(place) as address:
            yield address
    else:
        yield f"sqlite:///{place}/mlflow.db" if kind == "database" else str(place / "mlruns")


@pytest.fixture(scope="module", params=["server", "database", "directory"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What became of every one of SOURCES; "ids" are those of the run and of the logged model."""
    place = tmp_path_factory.mktemp(request.param)
    model = place / "model"
    for name, text in {
        "MLmodel": MLMODEL,
        "tf2model/saved_model.pb": "graph",
        "tf2model/variables/variables.index": "index",
        "input_example.json": "[[1]]",
        "conda.yaml": "x",
    }.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(text)
    (place / "mlruns").mkdir()
    with store(request.param, place) as uri:
        ids = json.loads(python(place, str(ROOT / "tests/fakes/mlflow_store.py"), uri, str(model)))
        asked = [source.format(**ids) for source in SOURCES]
        said = python(place, "-m", "tests.serving.fetch.mlflow_calls", uri, str(place / "fetched"), *asked)
        answers = [json.loads(line) for line in said.splitlines()]
        yield {"kind": request.param, "ids": ids} | dict(zip(SOURCES, answers, strict=True))


@pytest.mark.parametrize("source", SOURCES[:7])
def test_a_model_is_found_however_it_is_named(source: str, found: dict[str, Any]) -> None:
    answer = found[source]
    path = Path(answer["path"])
    assert (path / "tf2model/saved_model.pb").read_text() == "graph"
    if found["kind"] == "server":  # a directory of this machine is prepared where it lies
        assert files(path) >= {"MLmodel", "tf2model/variables/variables.index", "input_example.json"}
        assert "conda.yaml" not in files(path)
    assert answer["lineage"]["training_run"] == found["ids"]["run"]
    assert answer["lineage"]["git_commit"] == COMMIT


def test_an_alias_is_remembered_as_the_version_it_meant(found: dict[str, Any]) -> None:
    assert found["models:/digits@champion"]["source"] == "models:/digits/1"
    assert found["models:/digits/latest"]["source"] == "models:/digits/2"


def test_the_whole_story_of_the_training_comes_along(found: dict[str, Any]) -> None:
    lineage = found["models:/digits@champion"]["lineage"]
    assert (lineage["dataset"], lineage["dataset_digest"]) == ("optical digits", "d19e57")
    assert lineage["parameters"] == {"layers": "2"}
    assert lineage["metrics"] == {"accuracy": 0.97, "loss": "nan"}, "JSON has no NaN"
    facts = lineage["notes"]["mlflow"]
    assert (facts["model"], facts["version"], facts["aliases"]) == ("digits", "1", ["champion"])
    assert (facts["experiment"], facts["run_name"], facts["tags"]) == ("handwriting", "first try", {"team": "vision"})
    assert found["models:/digits/2"]["lineage"]["notes"]["mlflow"]["model_id"] == found["ids"]["logged_model"]
    assert "sesame" not in json.dumps(lineage) and "token" not in json.dumps(lineage)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("models:/nobody/1", "does not know it"),
        ("models:/digits@nobody", "does not know it"),
        ("runs:/{run}/nothing", "has no artifact and no model 'nothing'"),
        ("models:/digits", "expected models:/name/3, models:/name@alias"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(source: str, words: str, found: dict[str, Any]) -> None:
    assert words in found[source]["error"]


def test_another_flavor_is_refused_before_its_pickle_comes(found: dict[str, Any]) -> None:
    answer = found["models:/forest/1"]
    if found["kind"] == "server":
        words = answer["error"]
    else:  # it lies on this machine: prepare is the one to refuse it
        with pytest.raises(Unsupported) as refused:
            recognise(answer["path"])
        words = refused.value.message
    assert "got python_function, sklearn" in words


def test_without_mlflow_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "serving.fetch.mlflow_place", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(Unsupported, match=r"pip install 'teal\[mlflow\]'"):
        fetch(FetchSpec("models:/digits/1", str(tmp_path)), lambda _stage, _detail: None)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for uri, words in (
        (f"sqlite:///{tmp_path}/mistyped.db", "not exist"),
        ("http://127.0.0.1:9", "refused the connection"),
    ):
        said = python(
            tmp_path, "-m", "tests.serving.fetch.mlflow_calls", uri, str(tmp_path / "out" / uri[-3:]), "models:/m/1"
        )
        assert words in json.loads(said)["error"]
    assert not list(tmp_path.glob("mistyped*"))
