"""The one model that all tests of the real worker share."""

from pathlib import Path

import pytest

from tests.serving.packages import Package, litert_package, make_models, tensorflow_package


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def litert(models: Path, tmp_path: Path) -> Package:
    return litert_package(models, tmp_path / "litert")


@pytest.fixture
def tensorflow(models: Path, tmp_path: Path) -> Package:
    return tensorflow_package(models, tmp_path / "tensorflow")
