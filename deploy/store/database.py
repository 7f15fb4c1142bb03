"""Opens the database: SQLite with full durability on one machine, PostgreSQL through the same code on several.

Checks before anything else touches it: is the file whole, is its schema one this release reads.
Queries live in store.py.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.exc import DatabaseError, OperationalError

from contracts.errors import Internal, TealError, Unavailable
from deploy.store import schema
from deploy.store.upgrades import upgrade

BUSY_SECONDS = 10.0  # how long a write waits for another process (a `teal register`) to finish its own


class StateUnusable(Internal):
    """The database cannot be trusted or read; the sentence names it and what to do."""


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def open_engine(url: str) -> Engine:
    """An engine whose transactions are short and durable. Creates the tables of an empty database."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        _make_durable(engine)
    with translated(engine):
        _prepare_schema(engine)
    return engine


def check_integrity(engine: Engine) -> None:
    """Raise StateUnusable when SQLite finds damage in its file. Reads the whole file: meant for the start of a
    gateway, where a refusal costs no traffic, not for every command."""
    if engine.dialect.name != "sqlite":
        return
    with translated(engine), engine.connect() as connection:
        found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise StateUnusable(damaged(engine, "; ".join(found)))


def damaged(engine: Engine, detail: str) -> str:
    return (
        f"the state in {engine.url.database} is damaged ({detail[:200]}); nothing was changed. Running workers go "
        "on serving. Move the file and its -wal and -shm neighbours away and put a backup in place, then start again"
    )


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn what a database driver says into a sentence for the person who must act."""
    try:
        yield
    except OperationalError as error:
        raise _operational(engine, error) from error
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and type(error.orig) is sqlite3.DatabaseError:
            raise StateUnusable(damaged(engine, str(error.orig))) from error  # "not a database", "malformed"
        raise


def _operational(engine: Engine, error: OperationalError) -> TealError:
    said = str(error.orig)
    where = engine.url.render_as_string(hide_password=True)
    if "full" in said:
        return Unavailable(f"no space left to record this in {where}; nothing was changed. Free space and repeat")
    if "locked" in said:
        return Unavailable(f"another process holds {where} for more than {BUSY_SECONDS:g} s; repeat in a moment")
    return Unavailable(f"cannot reach the state in {where}: {said}")


def _make_durable(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # sqlite3 would start transactions by itself, and late; we say BEGIN ourselves (see below).
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",  # first: switching to WAL may have to wait as well
            "journal_mode=WAL",
            "synchronous=FULL",  # a commit that was answered survives a power cut
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads and then writes must hold the write lock from its first read, or two of
        # them deadlock and one fails with "database is locked" at once, whatever the time-out.
        reading = connection.get_execution_options().get("teal_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_schema(engine: Engine) -> None:
    if _schema_of(engine) == schema.SCHEMA:
        return
    # One transaction: a start that is killed half-way leaves an empty database, or the older one, and never half a
    # schema. Two that start at once take turns, and the second finds nothing to do.
    with engine.begin() as connection:
        if not inspect(connection).has_table(schema.schema_version.name):
            schema.metadata.create_all(connection)
            connection.execute(insert(schema.schema_version).values(version=schema.SCHEMA))
            return
        found = connection.execute(select(schema.schema_version.c.version)).scalar_one()
        if found < schema.SCHEMA:
            upgrade(connection, found)


def _schema_of(engine: Engine) -> int | None:
    """None for an empty database. Raises StateUnusable for one that a later release wrote, and leaves it alone."""
    with engine.connect().execution_options(teal_reading=True) as connection:
        if not inspect(connection).has_table(schema.schema_version.name):
            return None
        found = connection.execute(select(schema.schema_version.c.version)).scalar_one_or_none()
    if found is None or found > schema.SCHEMA:
        raise StateUnusable(
            f"the state in {engine.url.render_as_string(hide_password=True)} has schema {found}, "
            f"this release of Teal reads schema {schema.SCHEMA}; "
            "nothing was changed. Use the release that wrote it, or a newer one"
        )
    return int(found)
