"""Events in the database: appended to the chain, and read back. What an event means is records.py."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select, update

from deploy.audit.chain import GENESIS, linked
from deploy.store.records import Event
from deploy.store.schema import chain, events

CHECKPOINT = "checkpoint"
"""The action of an event that only takes observations into the chain. People are not shown it in a history."""
UPGRADE = "upgrade"
"""The action of the event up to which events were anchored that are older than the chain."""

_HEAD = 1  # the only row of `chain`


@dataclass(frozen=True)
class Link:
    """Where an event stands in the chain."""

    seq: int
    hash: str


class Chain:
    """The end of the chain, held by one transaction; what is appended is written in one go when it is left."""

    def __init__(self, connection: Connection) -> None:
        # The update comes first and takes the row's lock: of two who append at once, one waits, on any database.
        held = connection.execute(update(chain).where(chain.c.id == _HEAD).values(id=_HEAD))
        if held.rowcount == 0:
            connection.execute(insert(chain).values(id=_HEAD, seq=0, hash=GENESIS))
        found = connection.execute(select(chain.c.seq, chain.c.hash)).one()
        self._connection = connection
        self._head = Link(found.seq, found.hash)
        self._rows: list[Mapping[str, Any]] = []

    def append(
        self, event: Event, *, before: str | None = None, after: str | None = None, evidence: str | None = None
    ) -> Link:
        """Give the event its number and its hash. The texts are stored as they are, and hashed so."""
        row: dict[str, Any] = {
            "seq": self._head.seq + 1,
            "at": float(event.at),
            "actor": event.actor,
            "action": event.action,
            "model": event.model,
            "version": event.version,
            "reason": event.reason,
            "before": before,
            "after": after,
            "evidence": evidence,
        }
        row["previous_hash"] = self._head.hash
        row["hash"] = linked(self._head.hash, row)
        self._rows.append(row)
        self._head = Link(row["seq"], row["hash"])
        return self._head

    def write(self) -> None:
        if self._rows:
            self._connection.execute(insert(events), self._rows)
            self._connection.execute(update(chain).values(seq=self._head.seq, hash=self._head.hash))
            self._rows = []


@contextmanager
def appending(connection: Connection) -> Iterator[Chain]:
    """The chain, written at the end of the block."""
    held = Chain(connection)
    yield held
    held.write()


def tell(connection: Connection, event: Event) -> None:
    """Append one event that changes no deployment."""
    with appending(connection) as held:
        held.append(event)


def latest(connection: Connection, model: str, limit: int) -> tuple[Event, ...]:
    """The latest events of a model, newest first, without checkpoints."""
    query = select(events).where(events.c.model == model, events.c.action != CHECKPOINT)
    return tuple(_event(row) for row in connection.execute(query.order_by(events.c.seq.desc()).limit(limit)))


def _event(row: Row[Any]) -> Event:
    return Event(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        model=row.model,
        version=row.version,
        reason=row.reason,
        before=_read(row.before),
        after=_read(row.after),
        evidence=_read(row.evidence),
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def _read(text: str | None) -> dict[str, Any] | None:
    return None if text is None else cast(dict[str, Any], json.loads(text))
