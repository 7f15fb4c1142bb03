"""What was answered is kept: through kill -9, full disks, other processes, damaged files and other releases."""

import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contracts.errors import Conflict, NotFound
from deploy.rollout.events import Order, Plain, Verb, Weight
from deploy.rollout.moves import Decision
from deploy.rollout.rules import decide
from deploy.store.database import StateUnusable, sqlite_url
from deploy.store.store import Store
from tests.deploy.plane import add_versions
from tests.deploy.shelf import WELL, canary, child


def store_at(path: Path) -> Store:
    path.mkdir(parents=True, exist_ok=True)
    return Store(sqlite_url(path / "state.db"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = store_at(tmp_path)
    add_versions(made, "m", 2)
    canary(made)
    return made


def weigh(store: Store, units: int) -> Decision:
    return store.change("m", lambda d, _v: decide(d, Order(Weight(units), WELL), 1.0), actor="x", at=1.0)


def test_a_change_and_its_line_in_the_history_are_one(store: Store) -> None:
    before = store.deployment("m")
    decision = weigh(store, 2500)
    event = store.history("m")[0]
    assert store.deployment("m") == decision.deployment
    assert (event.action, event.version, event.reason) == ("weight", 2, decision.reason)
    assert event.before is not None
    assert event.after is not None
    assert (event.before["weight"], event.after["weight"]) == (before.weight, 2500)


def test_what_a_rule_refuses_leaves_everything_as_it_was(store: Store) -> None:
    before, events = store.deployment("m"), store.history("m")
    with pytest.raises(Conflict):
        store.change("m", lambda d, _v: decide(d, Order(Plain(Verb.UNDO), WELL), 1.0), actor="x", at=1.0)
    assert (store.deployment("m"), store.history("m")) == (before, events)


def test_a_decision_without_an_action_writes_nothing(store: Store) -> None:
    weigh(store, 100)
    events = store.history("m")
    assert weigh(store, 100).action is None
    assert store.history("m") == events


def test_changes_from_many_sides_are_one_after_the_other_and_none_is_lost(store: Store, tmp_path: Path) -> None:
    before = store.deployment("m").revision
    sides = [store, store_at(tmp_path), store_at(tmp_path)]
    with ThreadPoolExecutor(6) as crowd:
        decisions = list(crowd.map(lambda n: weigh(sides[n % 3], n + 1), range(60)))
    assert sorted(d.deployment.revision for d in decisions) == list(range(before + 1, before + 61))
    told = [e.after["revision"] for e in store.history("m", limit=60) if e.after]
    assert told == list(range(before + 60, before, -1))


def test_nothing_that_was_said_to_be_recorded_is_lost_by_a_kill(tmp_path: Path) -> None:
    made = store_at(tmp_path)
    add_versions(made, "m", 2)
    canary(made)
    made.close()
    writer = child(tmp_path, "weights")
    assert writer.stdout is not None
    for _ in range(40):
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    told = int((rest.split() or [told])[-1]) if rest.endswith("\n") or not rest else told
    again = store_at(tmp_path)
    again.check()
    found = again.deployment("m")
    assert found.weight in (told, told + 1), "the last one said, or the one being recorded"
    latest = again.history("m")[0]
    assert latest.after is not None
    assert latest.after["weight"] == found.weight


@pytest.mark.parametrize(("failpoint", "promoted"), [("command.before_commit", False), ("command.committed", True)])
def test_a_command_killed_around_its_commit_happened_wholly_or_not_at_all(
    store: Store, tmp_path: Path, failpoint: str, promoted: bool
) -> None:
    revision = store.deployment("m").revision
    killed = child(tmp_path, "promote", failpoint=f"{failpoint}:kill")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    found = store.deployment("m")
    assert (found.revision > revision) is promoted
    assert (store.history("m")[0].action == "promote") is promoted


def test_a_damaged_file_is_refused_by_name_with_what_to_do(tmp_path: Path) -> None:
    made = store_at(tmp_path)
    add_versions(made, "m", 200)
    made.close()
    file = tmp_path / "state.db"
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateUnusable, match=r"state\.db.*backup"):
        store_at(tmp_path).check()
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateUnusable, match=r"state\.db.*backup"):
        store_at(tmp_path)
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    with pytest.raises(StateUnusable, match=r"state\.db.*backup"):
        store_at(tmp_path).check()
    file.write_bytes(whole)
    store_at(tmp_path).check()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store_at(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as raw:
        raw.execute("UPDATE schema_version SET version = 99")
    raw.close()
    before = (tmp_path / "state.db").read_bytes()
    with pytest.raises(StateUnusable, match="schema 99, this release of Teal reads schema 2"):
        store_at(tmp_path)
    assert (tmp_path / "state.db").read_bytes() == before


def test_the_database_is_as_durable_as_promised(store: Store, tmp_path: Path) -> None:
    with store._engine.connect() as connection:  # the pragmas have no public door, and everything rests on them
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_labels_name_versions_that_exist_and_go_with_them(store: Store) -> None:
    store.set_label("m", "stable", 1, actor="x", at=1.0)
    store.set_label("m", "stable", 2, actor="x", at=1.0)
    assert store.all_labels() == {"m": {"stable": 2}}
    with pytest.raises(NotFound, match="registered: 1, 2"):
        store.set_label("m", "stable", 7, actor="x", at=1.0)
    assert store.labels("m") == {"stable": 2}
    store.set_label("m", "stable", None, actor="x", at=1.0)
    assert store.labels("m") == {}


def test_the_history_is_newest_first_and_bounded(store: Store) -> None:
    for units in range(1, 6):
        weigh(store, units)
    assert [e.after["weight"] for e in store.history("m", limit=3) if e.after] == [5, 4, 3]
    seqs = [e.seq for e in store.history("m")]
    assert seqs == sorted(seqs, reverse=True)
