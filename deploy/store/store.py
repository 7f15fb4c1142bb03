"""Every question and every change the control plane has for its database, as typed functions; each change is one
transaction together with its line in the history. What a change may be is decided elsewhere (registry, rollout).

Blocking on purpose: SQLite answers in microseconds and commits in a few milliseconds. The control plane calls what
commits in a thread, because a slow disk may take longer; reads it calls where it stands.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.errors import Conflict, NotFound
from deploy.failpoints import reach
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.rollout.deployment import Deployment, from_text, to_text
from deploy.rollout.moves import Decision
from deploy.store.database import check_integrity, open_engine, translated
from deploy.store.records import Event, Version
from deploy.store.schema import deployments, events, labels, models, processes, versions

HISTORY_MAX = 1000  # events in one answer

Rule = Callable[[Deployment, tuple[Version, ...]], Decision]


class Store:
    """The state of one home. Threads may share it; every call is its own transaction.

    Raises StateUnusable when the file is damaged or newer than this release, Unavailable when it is full or locked."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def close(self) -> None:
        self._engine.dispose()

    def check(self) -> None:
        """Raise StateUnusable when the database file is damaged."""
        check_integrity(self._engine)

    # ---- versions

    def add_version(
        self,
        model: str,
        *,
        digest: str,
        plan: str,
        source: str,
        lineage: Mapping[str, Any],
        seconds_per_row: float | None,
        actor: str,
        at: float,
    ) -> Version:
        """Give the package `digest` the next number of `model`."""
        with translated(self._engine), self._engine.begin() as connection:
            number = _next_version(connection, model)
            version = Version(model, number, digest, plan, source, at, seconds_per_row, dict(lineage))
            connection.execute(
                insert(versions).values(
                    model=model,
                    version=number,
                    digest=digest,
                    plan=plan,
                    source=source,
                    registered_at=at,
                    seconds_per_row=seconds_per_row,
                    lineage=json.dumps(version.lineage),
                )
            )
            reason = f"version {number} was registered from {source} with plan {plan}"
            _tell(connection, Event(0, at, actor, "register", model, number, reason))
            reach("register.before_commit")
        return version

    def remove_version(self, model: str, version: int, *, actor: str, at: float) -> tuple[Version, bool]:
        """Forget one version; return it and whether another row still needs its package. Raises NotFound, and
        Conflict while it is deployed."""
        with translated(self._engine), self._engine.begin() as connection:
            gone = _version(connection, model, version)
            deployed = _deployment(connection, model).place_of(version)
            if deployed is not None:
                role = deployed[0].value
                raise Conflict(
                    f"model {model}: version {version} is deployed as {role}; "
                    f"drain it or deploy another version before deleting it"
                )
            connection.execute(delete(labels).where(labels.c.model == model, labels.c.version == version))
            connection.execute(delete(versions).where(versions.c.model == model, versions.c.version == version))
            shared = select(versions.c.version).where(versions.c.digest == gone.digest).limit(1)
            needed = connection.execute(shared).first() is not None
            _tell(connection, Event(0, at, actor, "delete", model, version, f"version {version} was deleted"))
        return gone, needed

    def model_names(self) -> tuple[str, ...]:
        """Every model that has a version or is deployed, by name."""
        with translated(self._engine), self._reading() as connection:
            found = connection.execute(select(versions.c.model).distinct().order_by(versions.c.model))
            return tuple(row.model for row in found)

    def versions(self, model: str) -> tuple[Version, ...]:
        """The versions of a model, oldest first; empty when there are none."""
        with translated(self._engine), self._reading() as connection:
            return _versions(connection, model)

    def version(self, model: str, version: int) -> Version:
        """Raises NotFound naming what exists instead."""
        with translated(self._engine), self._reading() as connection:
            return _version(connection, model, version)

    def digests(self) -> frozenset[str]:
        """Every package that some version needs."""
        with translated(self._engine), self._reading() as connection:
            return frozenset(row.digest for row in connection.execute(select(versions.c.digest).distinct()))

    # ---- deployments

    def deployment(self, model: str) -> Deployment:
        """What is deployed of a model; one at revision 0 when it was never deployed."""
        with translated(self._engine), self._reading() as connection:
            return _deployment(connection, model)

    def deployments(self) -> tuple[Deployment, ...]:
        """Every model that was ever deployed, by name."""
        with translated(self._engine), self._reading() as connection:
            found = connection.execute(select(deployments.c.body).order_by(deployments.c.model))
            return tuple(from_text(row.body) for row in found)

    def change(self, model: str, rule: Rule, *, actor: str, at: float) -> Decision:
        """Read a deployment, let `rule` decide, and record what it decided, all in one transaction.

        What `rule` raises leaves everything as it was. A decision without an action is no event."""
        with translated(self._engine), self._engine.begin() as connection:
            before = _deployment(connection, model)
            decision = rule(before, _versions(connection, model))
            if decision.action is not None:
                _record(connection, before, decision, actor, at)
                reach("command.before_commit")
        if decision.action is not None:
            reach("command.committed")
        return decision

    def change_all(
        self, models: Collection[str], rule: Callable[[Deployment], Decision], *, actor: str, at: float
    ) -> tuple[Decision, ...]:
        """Let `rule` decide on each of `models` and record all of it in one transaction, in order of name: evidence
        that was taken in, and events where there is an action."""
        decisions = []
        with translated(self._engine), self._engine.begin() as connection:
            for model in sorted(models):
                before = _deployment(connection, model)
                decision = rule(before)
                if decision.action is not None:
                    _record(connection, before, decision, actor, at)
                elif decision.deployment != before:
                    _keep(connection, decision.deployment)
                decisions.append(decision)
            reach("evidence.before_commit")
        reach("evidence.committed")
        return tuple(decisions)

    # ---- labels

    def labels(self, model: str) -> Mapping[str, int]:
        """The user's own labels of a model: label to version."""
        with translated(self._engine), self._reading() as connection:
            found = connection.execute(select(labels).where(labels.c.model == model).order_by(labels.c.label))
            return {row.label: row.version for row in found}

    def all_labels(self) -> Mapping[str, Mapping[str, int]]:
        """The user's own labels of every model that has any."""
        found: dict[str, dict[str, int]] = {}
        with translated(self._engine), self._reading() as connection:
            for row in connection.execute(select(labels).order_by(labels.c.model, labels.c.label)):
                found.setdefault(row.model, {})[row.label] = row.version
        return found

    def set_label(self, model: str, label: str, version: int | None, *, actor: str, at: float) -> None:
        """Point a label at a version, or remove it with None. Raises NotFound for a version that does not exist."""
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(delete(labels).where(labels.c.model == model, labels.c.label == label))
            if version is not None:
                _version(connection, model, version)
                connection.execute(insert(labels).values(model=model, label=label, version=version))
            said = f"label {label!r} was removed" if version is None else f"label {label!r} names version {version}"
            _tell(connection, Event(0, at, actor, "label", model, version, said))

    # ---- history

    def history(self, model: str, limit: int = 100) -> tuple[Event, ...]:
        """The latest events of a model, newest first."""
        query = select(events).where(events.c.model == model).order_by(events.c.seq.desc())
        with translated(self._engine), self._reading() as connection:
            return tuple(_event(row) for row in connection.execute(query.limit(min(limit, HISTORY_MAX))))

    # ---- processes of this machine, for the fleet

    def save_process(self, record: ProcessRecord) -> None:
        """Remember a process; one with the same id is replaced."""
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(delete(processes).where(processes.c.id == record.id))
            connection.execute(
                insert(processes).values(
                    id=record.id,
                    kind=record.kind.value,
                    model=record.model,
                    version=record.version,
                    color=record.color,
                    replica=record.replica,
                    pid=record.pid,
                    start_ticks=record.start_ticks,
                    socket=record.socket,
                    spec=record.spec,
                    started_at=record.started_at,
                )
            )

    def forget_process(self, process_id: str) -> None:
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(delete(processes).where(processes.c.id == process_id))

    def processes(self) -> tuple[ProcessRecord, ...]:
        with translated(self._engine), self._reading() as connection:
            return tuple(_process(row) for row in connection.execute(select(processes).order_by(processes.c.id)))

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(teal_reading=True)


def _next_version(connection: Connection, model: str) -> int:
    # The update comes first and takes the row's lock, so two registrations at once get two numbers on any database.
    bump = update(models).where(models.c.name == model).values(next_version=models.c.next_version + 1)
    if connection.execute(bump).rowcount == 0:
        connection.execute(insert(models).values(name=model, next_version=2))
        return 1
    found = connection.execute(select(models.c.next_version).where(models.c.name == model)).scalar_one()
    return int(found) - 1


def _versions(connection: Connection, model: str) -> tuple[Version, ...]:
    found = connection.execute(select(versions).where(versions.c.model == model).order_by(versions.c.version))
    return tuple(_to_version(row) for row in found)


def _version(connection: Connection, model: str, version: int) -> Version:
    found = connection.execute(
        select(versions).where(versions.c.model == model, versions.c.version == version)
    ).one_or_none()
    if found is not None:
        return _to_version(found)
    known = _versions(connection, model)
    raise unknown_version(model, version, known) if known else unknown_model(connection, model)


def unknown_version(model: str, version: int, known: tuple[Version, ...]) -> NotFound:
    numbers = ", ".join(str(v.version) for v in known[-10:])
    return NotFound(f"model {model} has no version {version}; registered: {numbers}")


def unknown_model(connection: Connection, model: str) -> NotFound:
    names = [row.model for row in connection.execute(select(versions.c.model).distinct().order_by(versions.c.model))]
    there = f"registered: {', '.join(names[:10])}" if names else "nothing is registered yet"
    return NotFound(f"no model {model!r}; {there}. Register it with: teal register {model} SOURCE")


def _deployment(connection: Connection, model: str) -> Deployment:
    found = connection.execute(select(deployments.c.body).where(deployments.c.model == model)).scalar_one_or_none()
    return Deployment(model) if found is None else from_text(found)


def _record(connection: Connection, before: Deployment, decision: Decision, actor: str, at: float) -> None:
    after = decision.deployment
    body = to_text(after)
    if before.revision == 0:
        try:
            connection.execute(insert(deployments).values(model=after.model, revision=after.revision, body=body))
        except IntegrityError as error:
            raise _overtaken(after.model) from error
    else:
        # On SQLite the transaction alone would do; on PostgreSQL this comparison is what makes the loser notice.
        changed = connection.execute(
            update(deployments)
            .where(deployments.c.model == after.model, deployments.c.revision == before.revision)
            .values(revision=after.revision, body=body)
        )
        if changed.rowcount == 0:
            raise _overtaken(after.model)
    told = Event(
        0,
        at,
        actor,
        decision.action or "",
        after.model,
        decision.version,
        decision.reason,
        json.loads(to_text(before)),
        json.loads(body),
    )
    _tell(connection, told)


def _keep(connection: Connection, after: Deployment) -> None:
    """Write what changes without an event: the evidence of a rollout."""
    changed = connection.execute(
        update(deployments)
        .where(deployments.c.model == after.model, deployments.c.revision == after.revision)
        .values(body=to_text(after))
    )
    if changed.rowcount == 0:
        raise _overtaken(after.model)


def _overtaken(model: str) -> Conflict:
    return Conflict(f"model {model} was changed by somebody else at the same moment; look at its status and repeat")


def _tell(connection: Connection, event: Event) -> None:
    """Append to the history; the database gives the number."""
    connection.execute(
        insert(events).values(
            at=event.at,
            actor=event.actor,
            action=event.action,
            model=event.model,
            version=event.version,
            reason=event.reason,
            before=None if event.before is None else json.dumps(event.before),
            after=None if event.after is None else json.dumps(event.after),
        )
    )


def _to_version(row: Row[Any]) -> Version:
    return Version(
        model=row.model,
        version=row.version,
        digest=row.digest,
        plan=row.plan,
        source=row.source,
        registered_at=row.registered_at,
        seconds_per_row=row.seconds_per_row,
        lineage=json.loads(row.lineage),
    )


def _event(row: Row[Any]) -> Event:
    return Event(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        model=row.model,
        version=row.version,
        reason=row.reason,
        before=None if row.before is None else cast(dict[str, Any], json.loads(row.before)),
        after=None if row.after is None else cast(dict[str, Any], json.loads(row.after)),
    )


def _process(row: Row[Any]) -> ProcessRecord:
    return ProcessRecord(
        id=row.id,
        kind=ProcessKind(row.kind),
        model=row.model,
        version=row.version,
        color=row.color,
        replica=row.replica,
        pid=row.pid,
        start_ticks=row.start_ticks,
        socket=row.socket,
        spec=row.spec,
        started_at=row.started_at,
    )
