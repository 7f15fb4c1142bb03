"""Deployments in the database: read with what was observed since their latest event, and changed together with their
line in the history and the observation they were decided from. All rows of a kind are one statement.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.errors import Conflict
from deploy.audit.observations import Seen, Stretch, packed, plan_digest, rules_digest
from deploy.rollout.deployment import Deployment, from_text, to_text
from deploy.rollout.moves import Decision
from deploy.store.history import CHECKPOINT, Chain, Link
from deploy.store.records import Event
from deploy.store.schema import deployments, observations, stretches

CHECKPOINT_EVERY = 1000
"""Observations without an event after which one is written all the same: a rollout that stands still for a week must
neither fill the disk nor have to be replayed from its beginning."""
STRETCHES_PER_ROLLOUT = 20
"""Stretches between two events that are kept for each of the rollouts that are, whichever of them they belong to: one
that takes for ever takes the room of others."""
_PRUNED_AT_ONCE = 2  # stretches per event: each event ends one, so this keeps up, and no tick pays for many


class Standing(NamedTuple):
    """One model's row. `text` is None when the model was never deployed."""

    deployment: Deployment
    text: str | None
    stretch: Stretch


class Known:
    """Deployments by their text. They are values: the same text is the same deployment, and reading it again is what a
    tick would spend most of its time on. One entry per model."""

    def __init__(self) -> None:
        self._by_model: dict[str, tuple[str, Deployment]] = {}

    def read(self, model: str, text: str) -> Deployment:
        known = self._by_model.get(model)
        if known is not None and known[0] == text:
            return known[1]
        read = from_text(text)
        self.know(model, text, read)
        return read

    def know(self, model: str, text: str, deployment: Deployment) -> None:
        """`text` was made of `deployment`."""
        self._by_model[model] = (text, deployment)


def standing(connection: Connection, known: Known, model: str) -> Deployment:
    """What is deployed of a model, for somebody who only looks."""
    body = connection.execute(select(deployments.c.body).where(deployments.c.model == model)).scalar_one_or_none()
    return Deployment(model) if body is None else known.read(model, body)


def standings(connection: Connection, known: Known, models: Collection[str]) -> dict[str, Standing]:
    """The rows of these models, held by this transaction until its end."""
    query = select(deployments).where(deployments.c.model.in_(models)).with_for_update()
    found = {
        row.model: Standing(known.read(row.model, row.body), row.body, Stretch.from_text(row.stretch))
        for row in connection.execute(query)
    }
    return {model: found.get(model) or Standing(Deployment(model), None, Stretch()) for model in models}


def every_deployment(connection: Connection, known: Known) -> Iterator[Deployment]:
    query = select(deployments.c.model, deployments.c.body).order_by(deployments.c.model)
    return (known.read(row.model, row.body) for row in connection.execute(query))


@dataclass(frozen=True)
class Author:
    """Who changes deployments, when (wall seconds), and by which right: `epoch` is that of the lease when the control
    plane decides by itself, None for an operator."""

    actor: str
    at: float
    epoch: int | None = None


class Changes:
    """Changes of one transaction. `make` each, then `write` them all."""

    def __init__(
        self, connection: Connection, known: Known, chain: Chain, author: Author, *, kept_rollouts: int
    ) -> None:
        self._connection = connection
        self._known = known
        self._chain = chain
        self._author = author
        self._kept_rollouts = kept_rollouts
        self._new: list[dict[str, Any]] = []
        self._updated: list[dict[str, Any]] = []
        self._observed: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []

    def make(self, before: Standing, decision: Decision, seen: Seen | None = None) -> None:
        """What was decided, with what it was decided from. Nothing when it changes nothing."""
        after, stretch = decision.deployment, before.stretch
        if after == before.deployment and decision.action is None:
            return
        if seen is not None:
            if stretch.rules not in ("", rules_digest()):  # another release, or machine, decided until now
                stretch = self._checked(stretch, before.deployment, before.text or "")
            body = packed(seen)
            stretch = stretch.seeing(body)
            self._observed.append({"since": stretch.since, "body": body, "digest": stretch.digest})
        text = to_text(after)
        if decision.action is not None:
            stretch = self._told(before, stretch, decision, text, decided=seen is not None)
        elif stretch.observations >= CHECKPOINT_EVERY:
            stretch = self._checked(stretch, after, text)
        row = {"of": after.model, "revision": after.revision, "body": text, "stretch": stretch.to_text()}
        (self._new if before.text is None else self._updated).append(row)
        self._known.know(after.model, text, after)

    def write(self) -> None:
        """Raises Conflict when somebody else deployed one of these models for the first time meanwhile."""
        self._chain.write()
        if self._observed:
            self._connection.execute(insert(observations), self._observed)
        if self._ended:
            self._connection.execute(insert(stretches), self._ended)
        if self._updated:
            of = deployments.c.model == bindparam("of")
            values: dict[str, Any] = {name: bindparam(name) for name in ("revision", "body", "stretch")}
            self._connection.execute(update(deployments).where(of).values(values), self._updated)
        for row in self._new:
            try:
                self._connection.execute(insert(deployments).values(model=row.pop("of"), **row))
            except IntegrityError as error:
                raise Conflict(
                    "it was deployed for the first time by somebody else at the same moment; look at its status"
                ) from error

    def _told(self, before: Standing, stretch: Stretch, decision: Decision, text: str, *, decided: bool) -> Stretch:
        """An event ends a stretch and begins the next one."""
        after = decision.deployment
        told = self._append(
            Event(0, self._author.at, self._author.actor, decision.action or "", after.model, decision.version,
                  decision.reason),
            stretch,
            before=before.text or to_text(before.deployment),
            after=text,
            plan=plan_digest((before.deployment.trial or after.trial or after).plan),
            decided=decided,
        )  # fmt: skip
        rollout = None if after.trial is None else stretch.rollout or told.seq
        return Stretch(told.seq, rollout, 0, told.hash)

    def _checked(self, stretch: Stretch, after: Deployment, text: str) -> Stretch:
        reason = f"{stretch.observations} observations were taken into the chain"
        event = Event(0, self._author.at, self._author.actor, CHECKPOINT, after.model, None, reason)
        told = self._append(event, stretch, after=text, plan=plan_digest(after.plan))
        return Stretch(told.seq, stretch.rollout, 0, told.hash)

    def _append(
        self,
        event: Event,
        stretch: Stretch,
        *,
        before: str | None = None,
        after: str,
        plan: str | None,
        decided: bool = False,
    ) -> Link:
        evidence = {
            "since": stretch.since,
            "rollout": stretch.rollout,
            "observations": stretch.observations,
            "digest": stretch.digest,
            "rules": stretch.rules,
            "decided": decided,
            "epoch": self._author.epoch,
            "plan": plan,
            "pruned": self._prune(event.model),
        }
        if stretch.observations:
            self._ended.append({"since": stretch.since, "model": event.model, "rollout": stretch.rollout})
        return self._chain.append(event, before=before, after=after, evidence=json.dumps(evidence))

    def _prune(self, model: str) -> list[int]:
        """Forget the oldest observations beyond what is kept, a little at a time; the event says which."""
        query = select(stretches.c.since, stretches.c.rollout).where(stretches.c.model == model)
        kept = [(row.since, row.rollout) for row in self._connection.execute(query.order_by(stretches.c.since))]
        rollouts = sorted({rollout for _, rollout in kept if rollout is not None})
        oldest = rollouts[-self._kept_rollouts] if len(rollouts) > self._kept_rollouts else 0
        most = self._kept_rollouts * STRETCHES_PER_ROLLOUT
        surplus = [
            since
            for place, (since, rollout) in enumerate(kept)
            if (rollout is not None and rollout < oldest) or place < len(kept) - most
        ][:_PRUNED_AT_ONCE]
        if surplus:
            self._connection.execute(delete(observations).where(observations.c.since.in_(surplus)))
            self._connection.execute(delete(stretches).where(stretches.c.since.in_(surplus)))
        return surplus
