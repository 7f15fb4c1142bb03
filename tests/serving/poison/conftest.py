"""The killer is made once."""

import pytest

from tests.serving.packages import Package
from tests.serving.poison.killer import killer_package, make_killer


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Package:
    made = make_killer(tmp_path_factory.mktemp("killer"))
    return killer_package(made, tmp_path_factory.mktemp("package") / "killer")
