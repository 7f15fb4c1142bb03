"""Steps from the schema of an older release to this one's. Each is one transaction: a start that is killed half-way
leaves the older database as it was, which the next start takes up again.
"""

import time

from sqlalchemy import Connection, text, update

from deploy.audit.observations import Stretch
from deploy.store import schema
from deploy.store.history import UPGRADE, appending
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
    for model, stretch in _anchored(connection).items():
        of = schema.deployments.c.model == model
        connection.execute(update(schema.deployments).where(of).values(stretch=stretch.to_text()))
    kept = ", ".join(c.name for c in schema.processes.columns if c.name != "owner")
    connection.execute(text(f"INSERT INTO processes (owner, {kept}) SELECT '', {kept} FROM processes_before"))  # noqa: S608
    for name in ("events", "processes"):
        connection.execute(text(f"DROP TABLE {name}_before"))


def _anchored(connection: Connection) -> dict[str, Stretch]:
    """Chain the former events; what has been observed of each model since: nothing."""
    stretches: dict[str, Stretch] = {}
    number = 0
    with appending(connection) as chain:
        for row in connection.execute(text('SELECT * FROM events_before ORDER BY "seq"')).mappings():
            number += 1
            known = {name: row[name] for name in ("at", "actor", "action", "model", "version", "reason")}
            link = chain.append(Event(0, **known), before=row["before"], after=row["after"])
            if row["after"] is not None:
                stretches[row["model"]] = Stretch(link.seq, None, 0, link.hash)
            if number % 1000 == 0:
                chain.write()
        reason = f"{number} events from before there was a chain were taken into it as they were found"
        chain.append(Event(0, time.time(), "teal", UPGRADE, "", None, reason))
    return stretches


_STEPS = (_chained,)
