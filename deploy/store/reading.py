"""The record as it was written, row by row, for those who check it. One transaction; it sees one moment.

Nothing is interpreted here: a row that was tampered with must reach the one who checks, not break the reader.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from deploy.store.schema import chain, deployments, events, observations

_AT_ONCE = 500  # rows


class Observed(NamedTuple):
    """One observation: its number among all, itself, and the digest up to it."""

    seq: int
    body: bytes
    digest: str


@dataclass(frozen=True)
class Row:
    """One deployment as it stands."""

    model: str
    revision: int
    body: str
    stretch: str | None


class Reading:
    """Valid inside of `Store.audited`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self) -> tuple[int, str] | None:
        """Number and hash of the latest event, kept apart from the events."""
        found = self._connection.execute(select(chain.c.seq, chain.c.hash)).one_or_none()
        return None if found is None else (found.seq, found.hash)

    def events(self, since: int = 0, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Every event after `since` with all its columns, the oldest first; `most` of them."""
        query = select(events).where(events.c.seq > since).order_by(events.c.seq).limit(most)
        found = self._connection.execution_options(yield_per=_AT_ONCE).execute(query)
        return (dict(row) for row in found.mappings())

    def observations(self, since: int) -> Iterator[Observed]:
        """What was observed after the event `since`, in order; empty when it is no longer kept."""
        query = select(observations.c.seq, observations.c.body, observations.c.digest)
        found = self._connection.execute(query.where(observations.c.since == since).order_by(observations.c.seq))
        return (Observed(*row) for row in found)

    def deployments(self) -> Iterator[Row]:
        query = select(deployments.c.model, deployments.c.revision, deployments.c.body, deployments.c.stretch)
        return (Row(*row) for row in self._connection.execute(query.order_by(deployments.c.model)))
