"""What still works while nothing runs, and what the rest says."""

import subprocess
import sys
from pathlib import Path

import pytest

from contracts.package import canonical_json, digest_of, manifest_from_json
from deploy.cli.main import main
from deploy.home import Home
from deploy.store.database import sqlite_url
from deploy.store.records import Version
from deploy.store.store import Store
from tests.deploy.cli.conftest import Teal
from tests.deploy.cli.fake_gateway import manifest

HEAVY = ("fastapi", "sqlalchemy", "tensorflow", "httpx", "numpy", "grpc", "uvicorn")


@pytest.fixture
def registered(home: Path) -> Path:
    """A home with one version that some earlier `teal register` left."""
    described = manifest()
    digest = digest_of(manifest_from_json(described))
    place = Home(home)
    package = place.package(digest)
    package.mkdir()
    (package / "manifest.json").write_bytes(canonical_json(described))
    store = Store(sqlite_url(place.state))
    lineage = {"dataset": "handwritten digits"}
    store.add_version(Version("digits", 0, digest, "litert", "/models/digits", 1.0, 2.1e-06, lineage), actor="ada")
    store.close()
    return home


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "digits"],
        ["weight", "digits", "5"],
        ["promote", "digits"],
        ["abort", "digits"],
        ["rollback", "digits"],
        ["undo", "digits"],
        ["pause", "digits"],
        ["resume", "digits"],
        ["drain", "digits"],
        ["predict", "digits", "--data", "[[1, 2]]"],
    ],
)
def test_what_needs_a_gateway_says_how_to_start_one(teal: Teal, home: Path, words: list[str]) -> None:
    ran = teal(*words)
    assert ran.code == 1
    assert ran.err == f"error: no gateway is running on {home}; start one with: teal up --home {home}\n"
    assert not home.exists(), "asking must not create a home"


def test_an_empty_place_has_no_models_and_is_left_as_it_is(teal: Teal, home: Path) -> None:
    assert teal("models", "--json").json == {"models": []}
    assert teal("status", "--json").json == {"gateway": None, "models": []}
    unknown = teal("models", "digits")
    assert (unknown.code, "teal register digits" in unknown.err) == (1, True)
    assert not home.exists()


def test_versions_history_and_status_are_read_from_the_home(teal: Teal, registered: Path) -> None:
    (version,) = teal("models", "digits", "--json").json["versions"]
    assert (version["version"], version["plan"], version["role"]) == (1, "litert", None)
    assert teal("models", "digits", "1", "--json").json["manifest"]["plan"] == "litert"
    assert "handwritten digits" in teal("models", "digits").out
    (event,) = teal("history", "digits", "--json").json["events"]
    assert (event["action"], event["actor"]) == ("register", "ada")
    status = teal("status", "digits", "--json").json
    assert (status["live"], status["candidate"], status["applied"]) == (None, None, None)
    assert "teal deploy digits" in teal("status").out


def test_a_version_can_be_deleted_from_the_home(teal: Teal, registered: Path) -> None:
    assert teal("delete", "digits", "1").code == 0
    assert teal("models", "digits").code == 1


def test_registering_what_is_not_there_fails_and_leaves_no_version(teal: Teal, home: Path, tmp_path: Path) -> None:
    missing = teal("register", "digits", str(tmp_path / "nothing"))
    assert missing.code == 1
    assert "nothing" in missing.err
    bad_name = teal("register", "../digits", str(tmp_path))
    assert bad_name.code == 2
    assert teal("models", "--json").json == {"models": []}


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from deploy.cli.main import main; main(['--help']); main(['deploy', '--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "rollback" in ran.stdout
    assert ran.stderr.strip() == "[]"


def test_no_words_at_all_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "teal [OPTIONS] COMMAND" in capsys.readouterr().out


def test_a_reader_who_leaves_is_no_error_worth_words(registered: Path) -> None:
    command = f"{sys.executable} -m deploy.cli.main history digits --home {registered} | true"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
