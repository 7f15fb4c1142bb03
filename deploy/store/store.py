"""Every question and every change the control plane has for its database, as typed functions; each change is one
transaction together with its line in the history. What a change may be is decided elsewhere (registry, rollout).

Blocking on purpose: SQLite answers in microseconds and commits in a few milliseconds. The control plane calls what
commits in a thread, because a slow disk may take longer; reads it calls where it stands.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from contracts.errors import Conflict, NotFound
from deploy.audit.observations import Seen
from deploy.failpoints import reach, reach_all, step_names
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.rollout.deployment import Deployment
from deploy.rollout.moves import Decision
from deploy.store import leases
from deploy.store.database import check_integrity, open_engine, translated
from deploy.store.history import appending, latest, tell
from deploy.store.leases import Tenure
from deploy.store.once import Once, first_result, keep_result
from deploy.store.reading import Reading
from deploy.store.records import Event, Version
from deploy.store.schema import labels, models, processes, versions
from deploy.store.standing import Author, Changes, Known, every_deployment, standing, standings

HISTORY_MAX = 1000  # events in one answer

KEPT_ROLLOUTS = 10  # of each model, whose observations are kept

Rule = Callable[[Deployment, tuple[Version, ...]], Decision]


class Store:
    """The state of one home, or of several that share it; `owner` names the home. Threads may share the store; every
    call is its own transaction. Of each model the observations of its `kept_rollouts` latest rollouts are kept.

    Raises StateUnusable when the file is damaged or newer than this release, Unavailable when it is full or locked."""

    def __init__(self, url: str, *, owner: str = "", kept_rollouts: int = KEPT_ROLLOUTS) -> None:
        self.owner = owner
        self._engine = open_engine(url)
        self._known = Known()
        self._kept_rollouts = kept_rollouts

    def close(self) -> None:
        self._engine.dispose()

    def check(self) -> None:
        """Raise StateUnusable when the database file is damaged."""
        check_integrity(self._engine)

    # ---- versions

    def add_version(self, new: Version, *, actor: str) -> Version:
        """Give a package the next number of its model, in the place of the one that `new` has."""
        with translated(self._engine), self._engine.begin() as connection:
            version = replace(new, version=_next_version(connection, new.model))
            connection.execute(insert(versions).values(asdict(version) | {"lineage": json.dumps(version.lineage)}))
            reason = f"version {version.version} was registered from {version.source} with plan {version.plan}"
            tell(connection, Event(0, version.registered_at, actor, "register", new.model, version.version, reason))
            reach("register.before_commit")
        return version

    def remove_version(self, model: str, version: int, *, actor: str, at: float) -> tuple[Version, bool]:
        """Forget one version; return it and whether another row still needs its package. Raises NotFound, and
        Conflict while it is deployed."""
        with translated(self._engine), self._engine.begin() as connection:
            gone = _version(connection, model, version)
            deployed = standings(connection, self._known, [model])[model].deployment.place_of(version)
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
            tell(connection, Event(0, at, actor, "delete", model, version, f"version {version} was deleted"))
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
            return standing(connection, self._known, model)

    def deployments(self) -> tuple[Deployment, ...]:
        """Every model that was ever deployed, by name."""
        with translated(self._engine), self._reading() as connection:
            return tuple(every_deployment(connection, self._known))

    def change(self, model: str, rule: Rule, *, actor: str, at: float, said: Once | None = None) -> Decision:
        """Read a deployment, let `rule` decide, and record what it decided, all in one transaction.

        What `rule` raises leaves everything as it was. A decision without an action is no event. What was `said` before
        is not decided again: it gets its first result, and Conflict when that key was said of something else."""
        with translated(self._engine), self._engine.begin() as connection:
            before = standings(connection, self._known, [model])[model]
            if said is not None and (first := first_result(connection, model, said)) is not None:
                return first
            decision = rule(before.deployment, _versions(connection, model))
            if said is not None:
                keep_result(connection, model, said, decision, at)
            if decision.action is not None:
                with self._changing(connection, Author(actor, at)) as changes:
                    changes.make(before, decision)
                reach("command.before_commit")
        if decision.action is not None:
            reach("command.committed")
        return decision

    def change_all(
        self, models: Collection[str], rule: Callable[[Deployment], tuple[Decision, Seen | None]], *, author: Author
    ) -> tuple[Decision, ...]:
        """Let `rule` decide on each of `models` and record all of it in one transaction, in order of name: what was
        seen, the evidence it became, and events where there is an action.

        Raises Fenced, with nothing written, when another control plane has taken the author's place."""
        with translated(self._engine), self._engine.begin() as connection:
            if author.epoch is not None:
                leases.check(connection, author.epoch)
            found = standings(connection, self._known, models)
            with self._changing(connection, author) as changes:
                decisions = []
                for model in sorted(models):
                    decision, seen = rule(found[model].deployment)
                    changes.make(found[model], decision, seen)
                    decisions.append(decision)
            steps = step_names(decision.action for decision in decisions)
            reach_all(steps, "before_commit")
        reach_all(steps, "committed")
        return tuple(decisions)

    @contextmanager
    def _changing(self, connection: Connection, author: Author) -> Iterator[Changes]:
        """Changes that are written at the end of the block."""
        with appending(connection) as chain:
            changes = Changes(connection, self._known, chain, author, kept_rollouts=self._kept_rollouts)
            yield changes
            changes.write()

    # ---- which control plane decides

    def tenure(self) -> Tenure | None:
        """Who decides; None when nobody ever did."""
        with translated(self._engine), self._reading() as connection:
            return leases.read(connection)

    def succeed(self, former: Tenure | None, following: Tenure) -> bool:
        """Put one tenure in the place of exactly the other; False when somebody else was there first."""
        with translated(self._engine), self._engine.begin() as connection:
            done = leases.replace(connection, former, following)
            reach("lease.before_commit")
        reach("lease.committed")
        return done

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
            tell(connection, Event(0, at, actor, "label", model, version, said))

    # ---- history

    def history(self, model: str, limit: int = 100) -> tuple[Event, ...]:
        """The latest events of a model, newest first."""
        with translated(self._engine), self._reading() as connection:
            return latest(connection, model, min(limit, HISTORY_MAX))

    @contextmanager
    def audited(self) -> Iterator[Reading]:
        """The whole record as it stands at this moment, whatever is appended meanwhile."""
        with translated(self._engine), self._reading() as connection:
            yield Reading(connection)

    # ---- processes of this machine, for the fleet

    def save_process(self, record: ProcessRecord) -> None:
        """Remember a process; one with the same id is replaced."""
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(delete(processes).where(self._own, processes.c.id == record.id))
            connection.execute(
                insert(processes).values(
                    owner=self.owner,
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
            connection.execute(delete(processes).where(self._own, processes.c.id == process_id))

    def processes(self) -> tuple[ProcessRecord, ...]:
        with translated(self._engine), self._reading() as connection:
            found = connection.execute(select(processes).where(self._own).order_by(processes.c.id))
            return tuple(_process(row) for row in found)

    @property
    def _own(self) -> ColumnElement[bool]:
        """Rows of this home; those without an owner are from before several homes could share a database."""
        return processes.c.owner.in_((self.owner, ""))

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
