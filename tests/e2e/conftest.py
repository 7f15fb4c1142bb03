"""Trains and registers once for the whole session; every test gets a copy of that home."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.clients.install import tfs_client, triton_client
from tests.e2e import versions
from tests.e2e.gateway import Gateway, call, running, train_and_register

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's training output: dense/, conv/, their samples and lineage, test images."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="session")
def seed_home(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which digits has versions 1 (dense) and 2 (convolutional), and no gateway ever ran."""
    home = tmp_path_factory.mktemp("seed") / "home"
    train_and_register(trained, home, ["digits"])
    return home


@pytest.fixture(scope="session")
def behaving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model files, each of which behaves or misbehaves in a stated way (tests/e2e/versions.py)."""
    return versions.make(tmp_path_factory.mktemp("behaving"))


@pytest.fixture
def home(seed_home: Path, tmp_path: Path) -> Path:
    """A copy of the seed home for one test."""
    return copied(seed_home, tmp_path)


def copied(seed_home: Path, folder: Path) -> Path:
    """A copy of the seed home in `folder`, for fixtures that live longer than one test."""
    return Path(shutil.copytree(seed_home, folder / "home"))


@pytest.fixture
def gateway(home: Path) -> Iterator[Gateway]:
    """A running gateway with nothing deployed."""
    with running(home) as up:
        yield up


@pytest.fixture
def serving(gateway: Gateway) -> Gateway:
    """A running gateway with version 1 of digits live."""
    gateway.must("deploy", "digits", "1")
    return gateway


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """64 rows of scikit-learn's digits, scaled to 0…1, float32 [64, 64]."""
    return (load_digits().data[:64] / 16.0).astype(np.float32)


@pytest.fixture(scope="session")
def examples_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow 1 model with a classify and a regress signature, made by a process of its own."""
    target = tmp_path_factory.mktemp("examples") / "model"
    make = (
        "import sys, pathlib as p; from tests.serving.prepare import zoo; zoo.classify_and_regress(p.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", make, str(target)], check=True, timeout=300, capture_output=True)
    return target


@pytest.fixture(scope="session")
def triton_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with Triton's own client: its pins do not go together with ours."""
    return triton_client(tmp_path_factory.mktemp("triton_client"))


@pytest.fixture(scope="session")
def tfs_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with TensorFlow Serving's own client, for the PYTHONPATH of this Python."""
    return tfs_client(tmp_path_factory.mktemp("tfs_client"))


@pytest.fixture(scope="session")
def spoken_to(seed_home: Path, examples_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for every test that only talks to it: digits 1 (live) and 2 (candidate, half of the traffic, label
    `next`), and `examples`, which classifies and regresses."""
    home = copied(seed_home, tmp_path_factory.mktemp("spoken_to"))
    Gateway(home).must("register", "examples", str(examples_model), timeout=300)
    with running(home) as up:
        up.must("deploy", "digits", "1")
        up.must("deploy", "digits", "2", "--strategy", "manual")
        up.must("deploy", "examples", "1")
        up.order("weight", percent=50)
        assert call(f"{up.admin}/api/v1/models/digits/labels/next", b'{"version": 2}', JSON, "PUT").status == 200
        yield up
