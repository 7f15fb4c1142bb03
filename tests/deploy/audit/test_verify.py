"""The record holds what happened: nothing in it can be changed or removed unnoticed, and every automatic decision comes
out again from what it was made from."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.audit.chain import GENESIS, linked
from deploy.audit.observations import extended
from deploy.audit.report import Report, Stood
from deploy.audit.verify import verify
from deploy.rollout.deployment import State
from deploy.store.database import sqlite_url
from deploy.store.store import Store
from tests.deploy.audit.story import again, begin, tick, until
from tests.deploy.plane import Plane, plane

WEIGHED = """replace(body, '"weight":1000,"st', '"weight":9000,"st')"""


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as p:
            await story(p)

    asyncio.run(told())


def checked(path: Path, **options: Any) -> Report:
    store = Store(sqlite_url(path / "state.db"))
    try:
        with store.audited() as record:
            return verify(record, **options)
    finally:
        store.close()


async def _promoted_and_rolled_back(p: Plane) -> None:
    await begin(p)
    await until(p, State.PROMOTED)
    await p.must("m/undo")
    await again(p, 2)
    await until(p, State.ROLLED_BACK, failing=0.3)
    await again(p, 2)
    await tick(p)  # the last one stays under way


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one rollout was promoted, one rolled back, and one is under way."""
    path = tmp_path_factory.mktemp("told")
    drive(path, _promoted_and_rolled_back)
    return path


@pytest.fixture
def home(told: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    with sqlite3.connect(told / "state.db") as source, sqlite3.connect(tmp_path / "state.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    return tmp_path


def tamper(home: Path, *statements: str, **values: Any) -> None:
    with sqlite3.connect(home / "state.db") as raw:
        raw.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            assert raw.execute(statement, values).rowcount > 0, statement
    raw.close()


def test_every_automatic_decision_comes_out_again_with_its_counts_and_thresholds(told: Path) -> None:
    report = checked(told)
    assert report.wrong == []
    assert [d.action for d in report.decisions] == [
        "live", "start", "advance", "cutover", "promote", "start", "rollback", "start"
    ]  # fmt: skip
    rollback = report.decisions[-2]
    errors = rollback.guardrails[0]
    assert (rollback.actor, rollback.after, rollback.alpha, rollback.epoch) == (
        "teal",
        Stood(11, "rolled_back"),
        0.01,
        1,
    )
    assert errors.harm > errors.harm_threshold
    assert f"{errors.candidate.bad} of {errors.candidate.units}" in rollback.reason
    assert rollback.plan is not None
    assert len(rollback.plan) == 64


def test_one_model_alone_can_be_replayed(told: Path) -> None:
    assert checked(told, model="other").decisions == []
    assert checked(told, model="other").events == checked(told).events


@pytest.mark.parametrize("column", ["at", "actor", "action", "model", "version", "reason", "before", "after",
                                    "evidence", "previous_hash", "hash"])  # fmt: skip
def test_a_changed_column_of_an_event_is_found_by_its_number(home: Path, column: str) -> None:
    seq = checked(home).decisions[-2].seq
    special = {"at": "at + 0.001", "version": "version + 1", "model": "'other'"}
    changed = special.get(column, f"replace({column}, substr({column}, 3, 1), '7')")
    tamper(home, f"UPDATE events SET {column} = {changed} WHERE seq = {seq}")  # noqa: S608
    wrong = checked(home).wrong
    assert wrong
    assert min(found.seq for found in wrong if found.seq is not None) == seq
    assert any(found.seq == seq for found in wrong)


@pytest.mark.parametrize("offset", [0, 20, -1])
def test_a_flipped_byte_of_an_observation_is_found_by_its_number(home: Path, offset: int) -> None:
    with sqlite3.connect(home / "state.db") as raw:
        number, body = raw.execute("SELECT seq, body FROM observations ORDER BY seq LIMIT 1 OFFSET 4").fetchone()
    raw.close()
    flipped = bytearray(body)
    flipped[offset] ^= 1
    tamper(home, "UPDATE observations SET body = :body WHERE seq = :seq", body=bytes(flipped), seq=number)
    assert [f"observation {number}, " in found.what for found in checked(home).wrong] == [True]


def test_observations_that_are_gone_without_a_word_are_missed(home: Path) -> None:
    tamper(home, "DELETE FROM observations WHERE since = (SELECT max(since) FROM stretches)")
    (found,) = checked(home).wrong
    assert "no event says that they were pruned" in found.what
    tamper(home, "DELETE FROM observations WHERE seq = (SELECT max(seq) FROM observations)")
    assert len(checked(home).wrong) == 2


@pytest.mark.parametrize("which", ["= 4", "IN (5, 6)", "= 1"])
def test_a_removed_event_leaves_a_hole_that_is_named(home: Path, which: str) -> None:
    tamper(home, f"DELETE FROM events WHERE seq {which}")  # noqa: S608
    assert any("missing before it" in found.what for found in checked(home).wrong)


def test_a_history_that_was_cut_off_at_its_end_is_shorter_than_the_chain(home: Path) -> None:
    tamper(home, "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)")
    assert any("the history ends with event" in found.what for found in checked(home).wrong)


def test_a_chain_made_anew_is_told_by_a_hash_that_was_noted(home: Path) -> None:
    seq, digest = checked(home).head
    assert checked(home, head=(seq, digest)).wrong == []
    assert checked(home, head=(seq, "0" * 64)).wrong[0].seq == seq
    assert checked(home, head=(seq + 1, digest)).wrong


@pytest.mark.parametrize(
    ("table", "column", "changed", "what"),
    [
        (
            "deployments",
            "body",
            """replace(body, '"weight":1000,"st', '"weight":9000,"st')""",
            "weight was recorded as 9000",
        ),
        ("deployments", "body", "'{}'", "no deployment"),
        ("deployments", "stretch", """replace(stretch, '"observations":', '"observations":1')""", "observations led"),
        ("deployments", "revision", "revision + 1", "is at revision"),
        ("deployments", "model", "'somebody'", "its deployment is gone"),
        ("chain", "seq", "seq + 1", "the history ends with event"),
    ],
)
def test_what_stands_today_must_follow_from_the_history(
    home: Path, table: str, column: str, changed: str, what: str
) -> None:
    tamper(home, f"UPDATE {table} SET {column} = {changed}")  # noqa: S608
    assert any(what in found.what for found in checked(home).wrong), checked(home).wrong


def test_a_forged_decision_is_found_even_when_the_whole_chain_was_made_anew(home: Path) -> None:
    report = checked(home)
    forge(home, report.decisions[-2].seq, "reason", "everything is fine")
    (found,) = checked(home).wrong
    assert "its reason was recorded as 'everything is fine'" in found.what


def test_what_other_rules_decided_is_told_apart_from_a_forgery(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.audit.verify.rules_digest", lambda: "another release")
    forge(home, checked(home).decisions[-2].seq, "reason", "decided otherwise then")
    report = checked(home)
    assert (report.wrong, len(report.other_rules)) == ([], 1)


def test_a_checkpoint_bounds_what_has_to_be_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.store.standing.CHECKPOINT_EVERY", 4)

    async def story(p: Plane) -> None:
        await begin(p)
        await p.must("m/pause")
        for _ in range(11):
            await tick(p)
        history = await p.get("/api/v1/models/m/history")
        assert [e["action"] for e in history["events"]][:2] == ["pause", "start"]

    drive(tmp_path, story)
    report = checked(tmp_path)
    assert report.wrong == []
    assert report.observations >= 11


def test_old_rollouts_are_pruned_and_said_to_be(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await begin(p)
        for _ in range(5):
            await until(p, State.ROLLED_BACK, failing=0.3)
            await again(p, 2)
        await until(p, State.PROMOTED)

    drive(tmp_path, story, kept_rollouts=2)
    report = checked(tmp_path)
    assert report.wrong == []
    assert report.pruned
    assert [d.action for d in report.decisions][-4:] == ["start", "advance", "cutover", "promote"]
    assert len({pruned.rollout for pruned in report.pruned}) >= 3


def test_an_audit_sees_one_moment_while_others_write(told: Path, home: Path) -> None:
    store = Store(sqlite_url(home / "state.db"))
    with store.audited() as record:
        head = record.head()
        store.set_label("m", "stable", 1, actor="x", at=1.0)
        assert record.head() == head
        assert verify(record).wrong == []
    assert checked(home).events == checked(told).events + 1
    store.close()


def forge(home: Path, seq: int, column: str, value: str) -> None:
    """Change an event and everything that hangs on it, as somebody could who has the whole database to himself."""
    hashes = {0: GENESIS}

    def digest(raw: sqlite3.Connection, since: int) -> str:
        """Of a stretch, with the digests of its observations made anew."""
        so_far = hashes[since]
        for number, body in raw.execute("SELECT seq, body FROM observations WHERE since = ? ORDER BY seq", (since,)):
            so_far = extended(so_far, body)
            raw.execute("UPDATE observations SET digest = ? WHERE seq = ?", (so_far, number))
        return so_far

    raw = sqlite3.connect(home / "state.db")
    raw.row_factory = sqlite3.Row
    with raw:
        for found in raw.execute("SELECT * FROM events ORDER BY seq").fetchall():
            row = dict(found)
            if row["seq"] == seq:
                row[column] = value
            if row["evidence"]:
                evidence = json.loads(row["evidence"])
                row["evidence"] = json.dumps(evidence | {"digest": digest(raw, evidence["since"])})
            row["previous_hash"] = hashes[row["seq"] - 1]
            row["hash"] = hashes[row["seq"]] = linked(row["previous_hash"], row)
            columns = ", ".join(f"{name} = :{name}" for name in row)
            raw.execute(f"UPDATE events SET {columns} WHERE seq = :seq", row)  # noqa: S608
        raw.execute("UPDATE chain SET hash = ?", (hashes[max(hashes)],))
        for model, text in raw.execute("SELECT model, stretch FROM deployments").fetchall():
            stretch = json.loads(text)
            anew = json.dumps(stretch | {"digest": digest(raw, stretch["since"])})
            raw.execute("UPDATE deployments SET stretch = ? WHERE model = ?", (anew, model))
    raw.close()
