"""Steps from the schema of an older release to this one's. Each is one transaction: a start that is killed half-way
leaves the older database as it was, which the next start takes up again.
"""

import time

from sqlalchemy import Connection, select, text, update

from deploy.audit.observations import Stretch
from deploy.store import schema
from deploy.store.history import CHECKPOINT, UPGRADE, appending
from deploy.store.records import Event


def upgrade(connection: Connection, found: int) -> None:
    """Bring a database of schema `found` up to SCHEMA."""
    for step in _STEPS[found - 1 :]:
        step(connection)
    connection.execute(update(schema.schema_version).values(version=schema.SCHEMA))


def _chained(connection: Connection) -> None:
    """2: the history becomes a chain, deployments say what was observed, processes have an owner.

    Events from before are taken into the chain as they are found: nobody can say more about them than that. Tables are
    made anew rather than extended, because nothing may ever be written without its link: an older release that still
    runs fails at its next write, loudly, instead of leaving a hole."""
    connection.execute(text("DROP INDEX ix_events_model"))
    for name in ("events", "processes"):
        connection.execute(text(f"ALTER TABLE {name} RENAME TO {name}_before"))
    connection.execute(text("ALTER TABLE deployments ADD COLUMN stretch TEXT"))
    schema.metadata.create_all(connection)
    _anchor(connection)
    kept = ", ".join(c.name for c in schema.processes.columns if c.name != "owner")
    connection.execute(text(f"INSERT INTO processes (owner, {kept}) SELECT '', {kept} FROM processes_before"))  # noqa: S608
    for name in ("events", "processes"):
        connection.execute(text(f"DROP TABLE {name}_before"))


def _anchor(connection: Connection) -> None:
    """Chain the former events, and after them every deployment as it stands today: evidence that was taken in since its
    latest event left no trace in the history."""
    number, now = 0, time.time()
    rows = schema.deployments.c
    with appending(connection) as chain:
        for row in connection.execute(text('SELECT * FROM events_before ORDER BY "seq"')).mappings():
            number += 1
            known = {name: row[name] for name in ("at", "actor", "action", "model", "version", "reason")}
            chain.append(Event(0, **known), before=row["before"], after=row["after"])
            if number % 1000 == 0:
                chain.write()
        reason = f"{number} events from before there was a chain were taken into it as they were found"
        chain.append(Event(0, now, "teal", UPGRADE, "", None, reason))
        for model, body in connection.execute(select(rows.model, rows.body)).all():
            link = chain.append(Event(0, now, "teal", CHECKPOINT, model, None, "as it was found"), after=body)
            stretch = Stretch(link.seq, None, 0, link.hash).to_text()
            connection.execute(update(schema.deployments).where(rows.model == model).values(stretch=stretch))


_STEPS = (_chained,)
