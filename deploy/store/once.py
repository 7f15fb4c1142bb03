"""Commands that carry a key are done once: the same key again gets the first result, whatever happened since.

One row per model and key, written in the transaction of the change itself, and kept for a day.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from contracts.errors import Conflict
from deploy.rollout.deployment import from_text, to_text
from deploy.rollout.moves import Decision
from deploy.store.schema import commands

KEY_LONGEST = 200  # characters
KEPT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Once:
    """`asked` tells what was asked for with this key from anything else."""

    key: str
    asked: str


def once(key: str, *asked: object) -> Once:
    return Once(key, hashlib.sha256(repr(asked).encode()).hexdigest())


def first_result(connection: Connection, model: str, said: Once) -> Decision | None:
    """What came of the command when it came first, as a decision that changes nothing any more; None when it never
    came. Raises Conflict when something else was asked for with its key."""
    of = (commands.c.model == model) & (commands.c.key == said.key)
    found = connection.execute(select(commands).where(of)).one_or_none()
    if found is None:
        return None
    if found.asked != said.asked:
        raise Conflict(
            f"model {model}: the idempotency key {said.key[:80]!r} belongs to another command; use a new one for this"
        )
    return Decision(from_text(found.after), None, found.reason, found.version)


def keep_result(connection: Connection, model: str, said: Once, decision: Decision, at: float) -> None:
    connection.execute(delete(commands).where(commands.c.at < at - KEPT_SECONDS))
    connection.execute(
        insert(commands).values(
            model=model,
            key=said.key,
            asked=said.asked,
            at=at,
            reason=decision.reason,
            version=decision.version,
            after=to_text(decision.deployment),
        )
    )
