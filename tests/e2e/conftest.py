"""Trains and registers once for the whole session; every test gets a copy of that home."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.e2e.gateway import Gateway, running, train_and_register


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
