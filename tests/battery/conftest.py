"""Both models made and registered once; one gateway for a whole module; after each row, what must hold for all rows."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.battery import models
from tests.battery.vitals import Watch
from tests.e2e.gateway import Gateway, running


@pytest.fixture(scope="session")
def battery_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which `quick` has versions 1 and 2 and `slow` version 1, and no gateway ever ran."""
    folder = tmp_path_factory.mktemp("battery")
    models.make(folder)
    models.register(folder, folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def shared(battery_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker each of `quick` and `slow`, shared by the rows of a module."""
    home = Path(shutil.copytree(battery_home, tmp_path_factory.mktemp("gateway") / "home"))
    with running(home) as up:
        up.order("deploy", model="quick", version=1)
        up.order("deploy", model="slow", version=1)
        yield up


@pytest.fixture
def watch(shared: Gateway) -> Iterator[Watch]:
    """The shared gateway as a row talks to it. The invariants are checked when the row is over."""
    row = Watch.begin(shared)
    yield row
    row.check()
