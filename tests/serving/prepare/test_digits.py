"""The demo's classifiers, two sound ones and a careless export: trained by the script a user could have written,
prepared like anybody's models."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine.opening import open_engine
from tests.serving.prepare.conftest import Preparer

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    output = tmp_path_factory.mktemp("digits")
    command = [sys.executable, "-m", "deploy.demo.train", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_training_tells_stages_epochs_and_where_everything_is(trained: list[dict[str, Any]]) -> None:
    *progress, last = trained
    assert {line["stage"] for line in progress} == {"data", "train", "export"}
    assert all({"detail", "epoch", "accuracy"} <= line.keys() for line in progress if line["stage"] == "train")
    dense, conv, careless = last["result"]["versions"]
    assert (dense["name"], conv["name"], careless["name"]) == ("dense", "conv", "careless")
    assert dense["accuracy"] > 0.95
    assert conv["accuracy"] > 0.98
    with np.load(last["result"]["test"]) as test:
        assert test["images"].shape == (len(test["labels"]), 64)
        assert 0 <= test["images"].min() < test["images"].max() <= 1


@pytest.mark.parametrize("place", [0, 1])
def test_the_chosen_plan_is_as_right_as_training_said(
    place: int, trained: list[dict[str, Any]], prepared: Preparer
) -> None:
    result = trained[-1]["result"]
    version = result["versions"][place]
    manifest = prepared(version["model"], Path(version["samples"]), Path(version["lineage"]))
    assert manifest.plan == "litert"
    assert manifest.lineage.metrics["test_accuracy"] == version["accuracy"]
    assert manifest.lineage.dataset_digest is not None
    assert [o.name for o in manifest.signatures[0].outputs] == ["probabilities"]
    engine = open_engine(prepared.output, manifest, threads=1)
    with np.load(result["test"]) as test:
        images, labels = test["images"], test["labels"]
    right = 0
    for start in range(0, len(images), 64):
        answer = engine.run("serving_default", {"image": images[start : start + 64]})["probabilities"]
        right += int(np.sum(answer.argmax(axis=1) == labels[start : start + 64]))
    assert right / len(images) == pytest.approx(version["accuracy"], abs=0.003)
