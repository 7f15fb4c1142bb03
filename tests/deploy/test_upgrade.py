"""A home of an older release opens with this one, and nothing in it is lost or made up."""

import json
import sqlite3
from pathlib import Path

import pytest

from deploy.audit.verify import verify
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.home import Home
from deploy.rollout.deployment import State
from deploy.rollout.events import Order, Plain, Verb
from deploy.rollout.rules import decide
from deploy.store import database
from deploy.store.at_home import name_of
from deploy.store.database import StateUnusable, sqlite_url
from deploy.store.store import Store
from tests.deploy.shelf import WELL

# As release 0.1.0 made it before there was a chain.
SCHEMA_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE models (name VARCHAR(64) NOT NULL, next_version BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE versions (model VARCHAR(64) NOT NULL, version BIGINT NOT NULL, digest VARCHAR(64) NOT NULL,
  "plan" VARCHAR(64) NOT NULL, source TEXT NOT NULL, registered_at FLOAT NOT NULL, seconds_per_row FLOAT,
  lineage TEXT NOT NULL, PRIMARY KEY (model, version), FOREIGN KEY(model) REFERENCES models (name));
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE TABLE deployments (model VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (model), FOREIGN KEY(model) REFERENCES models (name));
CREATE TABLE events (seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, at FLOAT NOT NULL, actor TEXT NOT NULL,
  action VARCHAR(64) NOT NULL, model VARCHAR(64) NOT NULL, version BIGINT, reason TEXT NOT NULL, "before" TEXT,
  "after" TEXT);
CREATE INDEX ix_events_model ON events (model);
CREATE TABLE processes (id VARCHAR(128) NOT NULL, kind VARCHAR(16) NOT NULL, model VARCHAR(64) NOT NULL,
  version BIGINT NOT NULL, color VARCHAR(8) NOT NULL, replica INTEGER NOT NULL, pid INTEGER, start_ticks BIGINT,
  socket TEXT NOT NULL, spec TEXT NOT NULL, started_at FLOAT NOT NULL, PRIMARY KEY (id));
CREATE TABLE labels (model VARCHAR(64) NOT NULL, label VARCHAR(64) NOT NULL, version BIGINT NOT NULL,
  PRIMARY KEY (model, label), FOREIGN KEY(model, version) REFERENCES versions (model, version));
INSERT INTO schema_version VALUES (1);
INSERT INTO models VALUES ('m', 3);
INSERT INTO versions VALUES ('m', 1, 'one', 'litert', '/one', 1.0, NULL, '{}'), ('m', 2, 'two', 'litert', '/two', 2.0,
  0.5, '{"a": 1}');
INSERT INTO labels VALUES ('m', 'stable', 1);
INSERT INTO processes VALUES ('m-1-blue-0', 'worker', 'm', 1, 'blue', 0, 4242, 7, '/run/x', '{}', 3.0);
"""
NOTHING = {"model": "m", "revision": 0, "state": "absent", "live": None, "candidate": None, "previous": None,
           "weight": 0, "strategy": "manual", "reason": "never deployed", "since": 0.0, "undo_until": None,
           "plan": None, "trial": None}  # fmt: skip
ONE = {"version": 1, "color": "blue", "digest": "one", "replicas": 2}
TWO = {"version": 2, "color": "green", "digest": "two", "replicas": 2}
LIVE = NOTHING | {"revision": 1, "state": "live", "live": ONE, "reason": "version 1 is live", "since": 3.5}
CANARY = LIVE | {"revision": 2, "state": "canary", "candidate": TWO, "weight": 100, "reason": "takes 1 %"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as raw:
        raw.executescript(SCHEMA_1)
        told = [
            (1.0, "x", "register", "m", 1, "registered", None, None),
            (3.5, "x", "deploy", "m", 1, "version 1 is live", json.dumps(NOTHING), json.dumps(LIVE)),
            (4.0, "teal", "warm", "m", 2, "takes 1 %", json.dumps(LIVE), json.dumps(CANARY)),
        ]
        raw.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", told)
        raw.execute("INSERT INTO deployments VALUES ('m', 2, ?)", (json.dumps(CANARY | {"reason": "at 1 % since"}),))
    raw.close()
    return path


def test_an_older_state_is_brought_up_with_all_that_is_in_it(old: Path) -> None:
    store = Store(sqlite_url(old), owner="home")
    assert [e.action for e in store.history("m")] == ["warm", "deploy", "register"]
    assert [v.version for v in store.versions("m")] == [1, 2]
    assert store.labels("m") == {"stable": 1}
    deployment = store.deployment("m")
    assert (deployment.state, deployment.weight, deployment.reason) == (State.CANARY, 100, "at 1 % since")
    (process,) = store.processes()
    assert (process.kind, process.pid) == (ProcessKind.WORKER, 4242)
    store.forget_process(process.id)
    assert store.processes() == ()


def test_events_from_before_the_chain_are_anchored_and_said_to_be(old: Path) -> None:
    store = Store(sqlite_url(old))
    order = Order(Plain(Verb.ABORT), WELL)
    store.change("m", lambda d, _v: decide(d, order, 5.0), actor="x", at=5.0)
    store.close()
    again = Store(sqlite_url(old))
    with again.audited() as record:
        report = verify(record)
    assert (report.wrong, report.anchored, report.events) == ([], 3, 6)
    assert again.history("m")[0].action == "abort"
    with sqlite3.connect(old) as raw:
        raw.execute("UPDATE events SET reason = 'nothing' WHERE seq = 2")
    raw.close()
    with again.audited() as record:
        assert [found.seq for found in verify(record).wrong] == [2]


def test_an_upgrade_that_is_killed_half_way_leaves_the_older_state_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = database.upgrade

    def killed(*args: object) -> None:
        upgrade(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "upgrade", killed)
    with pytest.raises(KeyboardInterrupt):
        Store(sqlite_url(old))
    monkeypatch.undo()
    with sqlite3.connect(old) as raw:
        assert raw.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert raw.execute("SELECT count(*) FROM events").fetchone() == (3,)
    raw.close()
    assert Store(sqlite_url(old)).deployment("m").weight == 100


def test_an_older_release_that_still_runs_fails_loudly_instead_of_leaving_a_hole(old: Path) -> None:
    Store(sqlite_url(old)).close()
    with sqlite3.connect(old) as raw, pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        raw.execute("INSERT INTO events (at, actor, action, model, reason) VALUES (1, 'x', 'weight', 'm', 'x')")
    raw.close()


def test_a_state_without_a_version_is_refused(old: Path) -> None:
    with sqlite3.connect(old) as raw:
        raw.execute("DELETE FROM schema_version")
    raw.close()
    with pytest.raises(StateUnusable):
        Store(sqlite_url(old))


def test_a_home_keeps_its_name_and_no_two_have_the_same(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    names = [name_of(home) for home in homes]
    assert names == [name_of(home) for home in homes]
    assert len(set(names)) == 2
    assert [path.name for path in homes[0].run.iterdir()] == []


def test_homes_that_share_a_database_do_not_see_each_others_processes(tmp_path: Path) -> None:
    a, b = (Store(sqlite_url(tmp_path / "state.db"), owner=name) for name in ("a", "b"))
    record = ProcessRecord("m-1-blue-0", ProcessKind.WORKER, "m", 1, "blue", 0, 1, 2, "/run/x", "{}", 1.0)
    a.save_process(record)
    b.save_process(record)
    a.forget_process(record.id)
    assert (a.processes(), b.processes()) == ((), (record,))
