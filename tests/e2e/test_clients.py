"""Clients as their makers publish them, unmodified: what they are answered is what REST answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.gateway import Gateway

pytestmark = pytest.mark.e2e

CLIENTS = Path(__file__).parents[1] / "clients"


def told(command: list[str], path: Path | None = None) -> Any:
    """What a client script prints, as JSON."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path is not None else {})
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout)


def rest(gateway: Gateway, rows: np.ndarray, version: int) -> np.ndarray:
    answer = gateway.predict({"instances": rows.tolist()}, f"/v1/models/digits/versions/{version}:predict")
    return np.array(answer.json["predictions"])


def close(given: Any, expected: np.ndarray) -> bool:
    return np.allclose(given, expected, atol=1e-6)


@pytest.mark.tensorflow
def test_tensorflow_servings_client(spoken_to: Gateway, tfs_path: Path, images: np.ndarray) -> None:
    rows = images[:3]
    address = f"127.0.0.1:{spoken_to.port}"
    said = told([sys.executable, str(CLIENTS / "tfs.py"), address, json.dumps(rows.tolist())], tfs_path)
    one, two = rest(spoken_to, rows, 1), rest(spoken_to, rows, 2)
    for name, version, expected in (
        ("content", 1, one),
        ("typed", 1, one),
        ("filtered", 1, one),
        ("version", 2, two),
        ("label", 2, two),
    ):
        assert said[name]["version"] == version, name
        assert close(said[name]["outputs"], expected), name
    assert said["metadata"] == {"version": 1, "dtype": "float32", "shape": [-1, 64]}
    assert said["status"] == {"1": "AVAILABLE", "2": "AVAILABLE"}
    assert said["classify"] == ["left", "both"]
    assert said["regress"] == [1.0, 1.0]
    assert said["multi"] == [["left", "both"], [2.0, 1.0]]
    assert said["errors"] == {
        "model": "NOT_FOUND",
        "version": "NOT_FOUND",
        "label": "INVALID_ARGUMENT",
        "signature": "INVALID_ARGUMENT",
        "shape": "INVALID_ARGUMENT",
        "dtype": "INVALID_ARGUMENT",
        "missing": "INVALID_ARGUMENT",
        "no field": "INVALID_ARGUMENT",
        "status": "NOT_FOUND",
    }


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_tritons_client(spoken_to: Gateway, triton_python: Path, images: np.ndarray, way: str) -> None:
    rows = images[:3]
    address = f"127.0.0.1:{spoken_to.port}"
    said = told([str(triton_python), str(CLIENTS / "triton.py"), way, address, json.dumps(rows.tolist())])
    one, two = rest(spoken_to, rows, 1), rest(spoken_to, rows, 2)
    for name, version, expected in (
        ("infer", "1", one),
        ("filtered", "1", one),
        ("scheduled", "1", one),
        ("version", "2", two),
    ):
        assert (said[name]["version"], said[name]["id"]) == (version, "q"), name
        assert close(said[name]["outputs"], expected), name
    assert (said["live"], said["ready"], said["model_ready"], said["version_ready"]) == (True, True, True, True)
    assert said["unknown_ready"] in (False, "StatusCode.NOT_FOUND")
    assert said["server"] == "teal"
    assert said["metadata"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    assert said["index"] == [["digits", "1", "READY"], ["digits", "2", "READY"], ["examples", "1", "READY"]]
    assert len(said["async"]) == 5
    assert all(close(each, one) for each in said["async"])
    assert all(close(each, one) for each in said.get("forms", {}).values())
    invalid = "400" if way == "http" else "StatusCode.INVALID_ARGUMENT"
    assert said["unknown_input"] == [invalid, 'unknown input "other": expected "image"']
    assert said["wrong_shape"][0] == invalid
    assert 'input "image": expected float32' in said["wrong_shape"][1]
