"""A version registered from a bucket: fetched by a process with credentials, prepared by one without, nothing left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, NotFound
from contracts.package import Lineage
from deploy.registry.asked import Asked
from deploy.registry.sources import merged
from tests.deploy.shelf import ROOT, child, registry, source
from tests.fakes import bucket_server, s3
from tests.fakes.bucket_server import Store
from tests.fakes.s3 import S3


@pytest.fixture(scope="module")
def running_s3() -> Iterator[S3]:
    with s3.running() as server:
        yield server


@pytest.fixture
def bucket(running_s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in running_s3.environment.items():
        monkeypatch.setenv(name, value)
    return running_s3


def staged(home: Path) -> list[Path]:
    return list((home / "packages/.staging").iterdir())


def everything_written(home: Path) -> bytes:
    return b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())


def test_a_model_in_a_bucket_becomes_a_version_and_its_address_is_remembered(bucket: S3, tmp_path: Path) -> None:
    bucket.put("digits/model.keras", b"ok weights")
    reg, _, _ = registry(tmp_path / "home")
    told: list[tuple[str, str]] = []
    made = reg.register("m", Asked("s3://models/digits/model.keras"), progress=lambda *words: told.append(words))
    assert made.source == "s3://models/digits/model.keras"
    assert [stage for stage, _ in told] == ["list", "fetch", "fetch", "load", "verify"]
    assert staged(tmp_path / "home") == []
    assert s3.SECRET.encode() not in everything_written(tmp_path / "home")


def test_the_process_that_loads_the_model_sees_no_credentials(bucket: S3, tmp_path: Path) -> None:
    bucket.put("digits/nosy.keras", b"env weights")
    reg, _, home = registry(tmp_path / "home")
    made = reg.register("m", Asked("s3://models/digits/nosy.keras"))
    seen = json.loads((home.package(made.digest) / "plans/litert/model.tflite").read_text())
    assert "PATH" in seen
    assert not [name for name in seen if name.startswith("AWS_")]


def test_the_same_bytes_from_a_bucket_and_from_here_are_one_package(bucket: S3, tmp_path: Path) -> None:
    bucket.put("digits/same.keras", b"ok same")
    reg, _, _ = registry(tmp_path / "home")
    first, second = (
        reg.register("m", Asked("s3://models/digits/same.keras")),
        reg.register("m", Asked(source(tmp_path, "ok same"))),
    )
    assert first.digest == second.digest


def test_an_address_where_nothing_is_leaves_no_version_and_nothing_staged(bucket: S3, tmp_path: Path) -> None:
    reg, store, _ = registry(tmp_path / "home")
    with pytest.raises(NotFound, match="no such object"):
        reg.register("m", Asked("s3://models/nothing"))
    assert store.versions("m") == ()
    assert staged(tmp_path / "home") == []


def test_a_model_that_is_refused_is_named_by_its_address(bucket: S3, tmp_path: Path) -> None:
    bucket.put("digits/bad.keras", b"bad weights")
    reg, _, _ = registry(tmp_path / "home")
    with pytest.raises(InvalidInput, match=r"^s3://models/digits/bad\.keras: no signature"):
        reg.register("m", Asked("s3://models/digits/bad.keras"))


def test_a_fetch_of_which_only_half_arrives_leaves_no_version(
    bucket: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {"digits/saved_model.pb": b"ok graph", "digits/variables/variables.index": b"half"}
    with bucket_server.running(objects=objects, sizes={"digits/variables/variables.index": 8}) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.endpoint)
        reg, store, _ = registry(tmp_path / "home")
        with pytest.raises(InvalidInput, match="changed while it was fetched"):
            reg.register("m", Asked("s3://models/digits"))
    assert store.versions("m") == ()
    assert staged(tmp_path / "home") == []


def test_what_a_killed_registration_left_is_gone_after_the_next(tmp_path: Path) -> None:
    home, model = tmp_path / "home", source(tmp_path)
    killed = child(home, "register", str(model), failpoint="register.prepared:kill")
    killed.communicate(timeout=60)
    assert len(staged(home)) == 1
    reg, _, _ = registry(home)
    reg.register("m", Asked(model))
    assert staged(home) == []


@pytest.fixture
def slow() -> Iterator[Store]:
    """A store that has begun to answer and never ends."""
    with bucket_server.running(objects={"digits/saved_model.pb": b"g"}, stuck=True) as store:
        yield store


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_leaves_nothing_and_a_kill_leaves_no_process(
    slow: Store, bucket: S3, tmp_path: Path, ending: signal.Signals
) -> None:
    home = tmp_path / "home"
    register = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli.main", "register", "m", "s3://models/digits", "--home", str(home)],
        env={**os.environ, "AWS_ENDPOINT_URL": slow.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: len(slow.asked) > 0)
    fetching = Path(f"/proc/{register.pid}/task/{register.pid}/children").read_text().split()
    assert len(fetching) == 1
    register.send_signal(ending)
    _, err = register.communicate(timeout=30)
    eventually(lambda: not Path(f"/proc/{fetching[0]}").exists())
    if ending == signal.SIGINT:
        assert (register.returncode, staged(home)) == (130, [])
        assert "Traceback" not in err


def test_progress_goes_to_standard_error_and_json_alone_to_standard_output(bucket: S3, tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "deploy.cli.main",
            "register",
            "m",
            "s3://models/none",
            "--json",
            "--home",
            str(tmp_path / "h"),
        ],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["code"] == "not_found"
    assert ran.stderr.startswith("error: s3://models/none: there is no such object")


def test_what_a_person_says_about_the_training_goes_before_what_was_found() -> None:
    found = Lineage("run", "mnist", "d1", {"lr": "1"}, {"acc": 0.9}, "abc", {"mlflow": {"server": "x"}})
    said = Lineage(dataset="ours", parameters={"lr": "2"}, notes={"team": "vision"})
    assert merged(said, found) == Lineage(
        "run", "ours", None, {"lr": "2"}, {"acc": 0.9}, "abc", {"mlflow": {"server": "x"}, "team": "vision"}
    )
    assert merged(Lineage(), found) == found
