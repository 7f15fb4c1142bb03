"""Versions are registered whole or not at all, whatever is killed, full, broken or doubled."""

import json
from pathlib import Path

import pytest

from contracts.errors import Conflict, Internal, InvalidInput, NotFound, TealError, Unavailable
from contracts.package import verify
from deploy.failpoints import FAILPOINTS
from deploy.home import Home
from deploy.registry.asked import Asked
from deploy.store.at_home import open_store
from deploy.store.database import StateUnusable
from tests.deploy.shelf import canary, child, registry, source

REGISTERING = [name for name in FAILPOINTS if name.startswith("register.")]


def shelf(home: Path) -> set[str]:
    return {p.name for p in (home / "packages").iterdir() if p.is_dir() and not p.name.startswith(".")}


def staged(home: Path) -> list[Path]:
    return list((home / "packages/.staging").iterdir())


def test_a_registered_version_is_a_verified_package_with_a_number_and_a_story(tmp_path: Path) -> None:
    reg, _, home = registry(tmp_path / "home")
    said: list[str] = []
    lineage = tmp_path / "lineage.json"
    lineage.write_text(json.dumps({"git_commit": "abc", "team": "vision"}))
    made = reg.register(
        "m", Asked(source(tmp_path), lineage=lineage), actor="ada", progress=lambda stage, _detail: said.append(stage)
    )
    assert (made.version, made.plan, made.seconds_per_row) == (1, "litert", 0.002)
    assert made.lineage["git_commit"] == "abc"
    assert made.lineage["notes"] == {"team": "vision"}
    verify(home.package(made.digest), made.digest)
    assert said == ["load", "verify"]
    assert staged(tmp_path / "home") == []
    event = reg.history("m")[0]
    assert (event.actor, event.action, event.version) == ("ada", "register", 1)
    assert reg.manifest("m", 1).plan == "litert"


def test_a_source_named_from_here_is_remembered_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reg, _, _ = registry(tmp_path / "home")
    model = source(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert reg.register("m", Asked(model.name)).source == str(model)
    assert str(model) in reg.history("m")[0].reason


def test_the_same_bytes_again_are_a_new_version_of_one_shared_package(tmp_path: Path) -> None:
    reg, _, _ = registry(tmp_path / "home")
    first, second = reg.register("m", Asked(source(tmp_path))), reg.register("m", Asked(source(tmp_path)))
    assert (first.version, second.version, first.digest) == (1, 2, second.digest)
    reg.delete("m", 1)
    assert shelf(tmp_path / "home") == {second.digest}
    reg.delete("m", 2)
    assert shelf(tmp_path / "home") == set()
    assert reg.register("m", Asked(source(tmp_path))).version == 3, "numbers are never used twice"


@pytest.mark.parametrize("failpoint", REGISTERING)
def test_a_kill_at_any_moment_leaves_no_version_or_a_whole_one(tmp_path: Path, failpoint: str) -> None:
    home, model = tmp_path / "home", source(tmp_path)
    killed = child(home, "register", str(model), failpoint=f"{failpoint}:kill")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    reg, store, place = registry(home)
    store.check()
    versions = store.versions("m")
    assert len(versions) == (1 if failpoint == "register.committed" else 0)
    for version in versions:
        verify(place.package(version.digest), version.digest)
    reg.collect_garbage()
    assert shelf(home) == {v.digest for v in versions}
    assert staged(home) == []
    again = reg.register("m", Asked(model))
    verify(place.package(again.digest), again.digest)
    assert again.version == len(versions) + 1


@pytest.mark.parametrize("failpoint", [name for name in REGISTERING if name != "register.committed"])
def test_a_full_disk_at_any_moment_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, failpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reg, store, _ = registry(tmp_path / "home")
    monkeypatch.setenv("TEAL_FAILPOINT", f"{failpoint}:full")
    with pytest.raises(Unavailable, match=r"no space left on the disk.*Free space"):
        reg.register("m", Asked(source(tmp_path)))
    monkeypatch.delenv("TEAL_FAILPOINT")
    assert store.versions("m") == ()
    assert staged(tmp_path / "home") == []
    reg.collect_garbage()
    assert shelf(tmp_path / "home") == set()


@pytest.mark.parametrize(
    ("mood", "kind", "words"),
    [
        ("bad", InvalidInput, "no signature with an input named x"),
        ("dies", Internal, "killed by signal 9.*segmentation fault, or so"),
        ("full", Unavailable, "no space left"),
        ("lies", InvalidInput, "sha256"),
        ("links", InvalidInput, "link"),
    ],
)
def test_a_preparation_that_goes_wrong_is_told_and_leaves_nothing(
    tmp_path: Path, mood: str, kind: type[TealError], words: str
) -> None:
    reg, store, _ = registry(tmp_path / "home")
    with pytest.raises(kind, match=words):
        reg.register("m", Asked(source(tmp_path, f"{mood} x")))
    assert store.versions("m") == ()
    assert staged(tmp_path / "home") == []
    assert shelf(tmp_path / "home") == set()


def test_a_preparation_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    reg, _, _ = registry(tmp_path / "home", seconds=1.0)
    with pytest.raises(Unavailable, match="longer than 1 s"):
        reg.register("m", Asked(source(tmp_path, "hangs x")))
    assert staged(tmp_path / "home") == []


@pytest.mark.parametrize(
    ("name", "given", "kind", "words"),
    [
        ("../m", "source.txt", InvalidInput, "model name"),
        ("m", "nowhere", NotFound, "does not exist"),
        ("m", "https://bucket/model", InvalidInput, "not supported"),
        ("m", "http://169.254.169.254/x", InvalidInput, "not supported"),
    ],
)
def test_a_name_or_source_that_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, name: str, given: str, kind: type[TealError], words: str
) -> None:
    source(tmp_path)
    reg, _, _ = registry(tmp_path / "home")
    with pytest.raises(kind, match=words):
        reg.register(name, Asked(given if "://" in given else tmp_path / given))
    assert list((tmp_path / "home/logs").iterdir()) == []


def test_lineage_that_is_not_json_is_refused_before_anything_starts(tmp_path: Path) -> None:
    reg, _, _ = registry(tmp_path / "home")
    lineage = tmp_path / "lineage.json"
    for text, words in (("{", "not readable JSON"), ("[]", "JSON object"), ('{"git_commit": 7}', "git_commit")):
        lineage.write_text(text)
        with pytest.raises(InvalidInput, match=words):
            reg.register("m", Asked(source(tmp_path), lineage=lineage))


def test_processes_that_register_at_once_get_different_numbers(tmp_path: Path) -> None:
    home, model = tmp_path / "home", source(tmp_path)
    at_once = [child(home, "register", str(model)) for _ in range(3)]
    said = [c.communicate(timeout=60) for c in at_once]
    assert [c.returncode for c in at_once] == [0, 0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["1", "2", "3"]
    _, store, _ = registry(home)
    assert len(store.history("m")) == 3


def test_a_collector_leaves_a_registration_that_is_still_running_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    reg, _, _ = registry(home)
    seen: list[tuple[str, ...]] = []
    made = reg.register("m", Asked(source(tmp_path)), progress=lambda _s, _d: seen.append(reg.collect_garbage()))
    assert seen == [(), ()]
    assert shelf(home) == {made.digest}


def test_a_damaged_package_is_replaced_when_the_same_bytes_are_registered_again(tmp_path: Path) -> None:
    reg, _, home = registry(tmp_path / "home")
    first = reg.register("m", Asked(source(tmp_path)))
    model = home.package(first.digest) / "plans/litert/model.tflite"
    model.chmod(0o600)
    model.write_text("flipped")
    second = reg.register("m", Asked(source(tmp_path)))
    verify(home.package(second.digest), second.digest)


def test_a_deployed_version_cannot_be_deleted(tmp_path: Path) -> None:
    reg, store, home = registry(tmp_path / "home")
    for _ in range(3):
        reg.register("m", Asked(source(tmp_path)))
    canary(store)
    for version, role in ((1, "live"), (2, "candidate")):
        with pytest.raises(Conflict, match=f"deployed as {role}"):
            reg.delete("m", version)
    gone = reg.delete("m", 3)
    assert home.package(gone.digest).is_dir(), "the others share it"
    with pytest.raises(NotFound, match="registered: 1, 2"):
        reg.delete("m", 3)


def test_a_kill_while_deleting_leaves_no_half_deleted_version(tmp_path: Path) -> None:
    reg, store, _ = registry(tmp_path / "home")
    reg.register("m", Asked(source(tmp_path)))
    killed = child(tmp_path / "home", "delete", "1", failpoint="delete.committed:kill")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert store.versions("m") == ()
    reg.collect_garbage()
    assert shelf(tmp_path / "home") == set()


def test_files_of_a_package_are_read_only(tmp_path: Path) -> None:
    reg, _, home = registry(tmp_path / "home")
    made = reg.register("m", Asked(source(tmp_path)))
    files = [p for p in home.package(made.digest).rglob("*") if p.is_file()]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o444}


def test_reading_names_what_is_there(tmp_path: Path) -> None:
    reg, _, _ = registry(tmp_path / "home")
    assert reg.models() == ()
    with pytest.raises(NotFound, match="nothing is registered yet"):
        reg.versions("m")
    reg.register("m", Asked(source(tmp_path)))
    assert reg.models() == ("m",)
    with pytest.raises(NotFound, match="registered: m"):
        reg.history("other")


@pytest.mark.parametrize("loss", ["gone", "emptied"])
def test_a_home_that_lost_its_state_is_refused_and_keeps_its_packages(tmp_path: Path, loss: str) -> None:
    reg, store, home = registry(tmp_path / "home")
    made = reg.register("m", Asked(source(tmp_path)))
    store.close()
    home.state.unlink()
    if loss == "emptied":
        home.state.touch()
    with pytest.raises(StateUnusable, match=r"state\.db is missing.*packages.*\(1\).*backup"):
        open_store(Home(home.path), None)
    assert shelf(home.path) == {made.digest}


def test_a_home_that_knows_its_packages_or_has_none_opens(tmp_path: Path) -> None:
    open_store(Home(tmp_path / "home"), None).close()
    reg, store, home = registry(tmp_path / "home")
    reg.register("m", Asked(source(tmp_path)))
    store.close()
    again = open_store(home, None)
    assert again.model_names() == ("m",)
    again.close()
