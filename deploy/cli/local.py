"""Answers reading commands from the home itself while no gateway runs, in the shapes of the operating API; and
registers and deletes there. Imported only by connect.py: it brings SQLAlchemy along."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from contracts.errors import InvalidInput, NotFound
from contracts.names import check_model_name
from contracts.package import Manifest, manifest_to_json
from deploy.answers import History, Models, Overview, Status, Version, Versions
from deploy.audit.verify import verify
from deploy.cli.failures import RegistrationRefused
from deploy.client import operator
from deploy.home import Home
from deploy.registry.asked import Asked
from deploy.registry.registry import Registry
from deploy.settings import from_environment
from deploy.store.at_home import open_store
from deploy.views import event_view, model_view, status_view, version_view

Progress = Callable[[str, str], None]


class LocalHome:
    """One home, read and written without a gateway. A context manager. Creates the home if there is none."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self._store = open_store(self.home, from_environment(os.environ).state_url)
        self._registry = Registry(self.home, self._store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()

    def models(self) -> Models:
        store = self._store
        return {"models": [model_view(n, len(store.versions(n)), store.deployment(n)) for n in store.model_names()]}

    def versions(self, model: str) -> Versions:
        standing = self._store.deployment(model)
        return {"model": model, "versions": [version_view(v, standing) for v in self._registry.versions(model)]}

    def version(self, model: str, version: int) -> Version:
        found = version_view(self._registry.version(model, version), self._store.deployment(model))
        return {**found, "manifest": manifest_to_json(self._registry.manifest(model, version))}

    def overview(self) -> Overview:
        return {"gateway": None, "models": [self.status(name) for name in self._registry.models()]}

    def status(self, model: str) -> Status:
        self._registry.versions(model)  # raises for a model nobody registered
        return status_view(self._store.deployment(model))

    def history(self, model: str, limit: int | None = None) -> History:
        events = self._registry.history(model, 100 if limit is None else limit)
        return {"model": model, "events": [event_view(e) for e in events]}

    def audit(self, model: str | None, head: tuple[int, str] | None) -> dict[str, Any]:
        """What a check of the record found; `head` is the number and hash of an event noted earlier."""
        if model is not None:
            self._registry.history(model, 1)  # raises for a model nobody registered
        with self._store.audited() as record:
            return verify(record, model, head).as_json()

    def delete(self, model: str, version: int) -> dict[str, Any]:
        self._registry.delete(model, version, actor=operator())
        return {"model": model, "version": version, "deleted": True}

    def register(self, model: str, asked: Asked, *, progress: Progress) -> tuple[Version, Manifest]:
        """Prepare and register. Raises RegistrationRefused when the model itself is the trouble."""
        check_model_name(model)
        try:
            made = self._registry.register(model, asked, actor=operator(), progress=progress)
        except InvalidInput as error:
            raise RegistrationRefused(error.message) from error
        manifest = self._registry.manifest(model, made.version)
        return version_view(made, self._store.deployment(model)), manifest


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
