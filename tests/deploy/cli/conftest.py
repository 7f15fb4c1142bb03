"""Runs commands in this process, as the shell would see them: exit code, standard output, standard error."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.main import main
from tests.deploy.cli.fake_gateway import FakeGateway, running_on


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Teal = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def teal(home: Path, capsys: pytest.CaptureFixture[str]) -> Teal:
    """`teal("weight", "digits", "25")` on the test's own home."""

    def run(*words: str) -> Ran:
        code = main([*words, "--home", str(home)])
        written = capsys.readouterr()
        return Ran(code, written.out, written.err)

    return run


@pytest.fixture
def gateway(home: Path) -> Iterator[FakeGateway]:
    with running_on(home) as up:
        yield up
