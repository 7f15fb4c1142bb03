"""Answers reading commands from the home itself while no gateway runs, in the shapes of the operating API; and
registers and deletes there. Imported only by connect.py: it brings SQLAlchemy along."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from contracts.errors import InvalidInput, NotFound
from contracts.names import Color, check_model_name
from contracts.package import Manifest, manifest_to_json
from contracts.traffic import as_number
from deploy.answers import Event, History, ModelRow, Models, Overview, Place, Status, Version, Versions
from deploy.cli.failures import RegistrationRefused
from deploy.client import operator
from deploy.home import Home
from deploy.registry.registry import Registry
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.deployment import Place as Standing
from deploy.store import records
from deploy.store.database import sqlite_url
from deploy.store.store import Store

Progress = Callable[[str, str], None]


class LocalHome:
    """One home, read and written without a gateway. A context manager. Creates the home if there is none."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self._store = Store(sqlite_url(self.home.state))
        self._registry = Registry(self.home, self._store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()

    def models(self) -> Models:
        return {"models": [self._row(name) for name in self._registry.models()]}

    def versions(self, model: str) -> Versions:
        standing = self._store.deployment(model)
        return {"model": model, "versions": [_version(v, standing) for v in self._registry.versions(model)]}

    def version(self, model: str, version: int) -> Version:
        found = _version(self._registry.version(model, version), self._store.deployment(model))
        return {**found, "manifest": manifest_to_json(self._registry.manifest(model, version))}

    def overview(self) -> Overview:
        return {"gateway": None, "models": [self.status(name) for name in self._registry.models()]}

    def status(self, model: str) -> Status:
        self._registry.versions(model)  # raises for a model nobody registered
        return _status(self._store.deployment(model))

    def history(self, model: str, limit: int | None = None) -> History:
        events = self._registry.history(model, 100 if limit is None else limit)
        return {"model": model, "events": [_event(e) for e in events]}

    def delete(self, model: str, version: int) -> dict[str, Any]:
        self._registry.delete(model, version, actor=operator())
        return {"model": model, "version": version, "deleted": True}

    def register(
        self, model: str, source: str, *, samples: Path | None, lineage: Path | None, progress: Progress
    ) -> tuple[Version, Manifest]:
        """Prepare and register. Raises RegistrationRefused when the model itself is the trouble."""
        check_model_name(model)
        try:
            made = self._registry.register(
                model, source, samples=samples, lineage=lineage, actor=operator(), progress=progress
            )
        except InvalidInput as error:
            raise RegistrationRefused(error.message) from error
        manifest = self._registry.manifest(model, made.version)
        return _version(made, self._store.deployment(model)), manifest

    def _row(self, name: str) -> ModelRow:
        standing = self._store.deployment(name)
        return {
            "model": name,
            "live": None if standing.live is None else standing.live.version,
            "candidate": None if standing.candidate is None else standing.candidate.version,
            "versions": len(self._store.versions(name)),
        }


class NoHome:
    """A home that does not exist: nothing is in it, and asking does not create it. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def models(self) -> Models:
        return {"models": []}

    def overview(self) -> Overview:
        return {"gateway": None, "models": []}

    def versions(self, model: str) -> Versions:
        raise self._unknown(model)

    def version(self, model: str, version: int) -> Version:
        raise self._unknown(model)

    def status(self, model: str) -> Status:
        raise self._unknown(model)

    def history(self, model: str, limit: int | None = None) -> History:
        raise self._unknown(model)

    def delete(self, model: str, version: int) -> dict[str, Any]:
        raise self._unknown(model)

    def _unknown(self, model: str) -> NotFound:
        return NotFound(
            f"no model {model!r}: there is no home at {self._path}; begin with: teal register {model} SOURCE"
        )


def _version(version: records.Version, standing: Deployment) -> Version:
    found = standing.place_of(version.version)
    return {
        "model": version.model,
        "version": version.version,
        "digest": version.digest,
        "plan": version.plan,
        "role": None if found is None else found[0].value,
        "color": None if found is None else found[1].color.value,
        "weight": 0.0 if found is None else _weight(standing, found[1].color),
        "registered_at": version.registered_at,
        "source": version.source,
        "seconds_per_row": version.seconds_per_row,
        "lineage": dict(version.lineage),
    }


def _status(standing: Deployment) -> Status:
    previous, until = standing.previous, standing.undo_until
    return {
        "model": standing.model,
        "revision": standing.revision,
        "live": _place(standing, standing.live),
        "candidate": _place(standing, standing.candidate),
        "previous": None
        if previous is None
        else {"version": previous.version, "color": previous.color.value, "until": until},
        "rollout": None
        if standing.state is State.ABSENT
        else {
            "strategy": standing.strategy.value,
            "state": standing.state.value,
            "step": None,
            "reason": standing.reason,
        },
        "applied": None,  # nobody routes by it now
    }


def _place(standing: Deployment, place: Standing | None) -> Place | None:
    if place is None:
        return None
    return {
        "version": place.version,
        "color": place.color.value,
        "weight": _weight(standing, place.color),
        "digest": place.digest,
        "replicas": place.replicas,
        "ready": 0,
        "workers": [],
    }


def _weight(standing: Deployment, color: Color) -> float:
    split = standing.split()
    return 0.0 if split is None else as_number(split.share(color))


def _event(event: records.Event) -> Event:
    return {
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor,
        "action": event.action,
        "model": event.model,
        "version": event.version,
        "reason": event.reason,
        "before": event.before,
        "after": event.after,
    }
