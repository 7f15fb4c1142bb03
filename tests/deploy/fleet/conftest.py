from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.fleet.gear import House
from tests.deploy.fleet.gear import house as open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as here:
        yield here
