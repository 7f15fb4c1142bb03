"""One S3 endpoint for all tests of this folder; every test has prefixes of its own in its bucket."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.fetch import FetchSpec
from serving.fetch.fetch import Fetched, fetch
from tests.fakes import s3
from tests.fakes.s3 import S3

Bring = Callable[[str], Fetched]


@pytest.fixture(scope="session")
def running_s3() -> Iterator[S3]:
    with s3.running() as server:
        yield server


@pytest.fixture
def bucket(running_s3: S3, clean: pytest.MonkeyPatch) -> S3:
    """The endpoint, with this process set up to reach it."""
    for name, value in running_s3.environment.items():
        clean.setenv(name, value)
    return running_s3


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of whoever runs the tests, and no metadata service to wait for."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return monkeypatch


@pytest.fixture
def output(tmp_path: Path) -> Path:
    place = tmp_path / "fetched"
    place.mkdir()
    return place


@pytest.fixture
def bring(output: Path) -> Bring:
    return lambda source: fetch(FetchSpec(source, str(output)), lambda _stage, _detail: None)


def files(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
