"""The registry: model sources become immutable numbered versions, and versions are read and deleted.

Works the same whether a gateway runs on the home or not; several processes may use it at once. How a package reaches
its place safely is staging.py, how it is made preparation.py, what is remembered deploy.store.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.clock import Clock, SystemClock
from contracts.errors import Unavailable
from contracts.fetch import FetchSpec, is_elsewhere
from contracts.names import check_model_name
from contracts.package import Manifest, PlanReport, lineage_to_json, read_manifest, verify
from contracts.prepare import PrepareSpec
from deploy.failpoints import reach
from deploy.home import Home
from deploy.registry.asked import Asked
from deploy.registry.preparation import Fetched, Prepared, Steps
from deploy.registry.sources import Sources, called_by_its_address
from deploy.registry.staging import (
    Staging,
    collect,
    make_durable,
    put_on_shelf,
    shelves_locked,
    staging,
    take_off_shelf,
)
from deploy.registry.step import Progress
from deploy.store.records import Event, Version
from deploy.store.store import Store

log = logging.getLogger(__name__)


def _silent(_stage: str, _detail: str) -> None:
    """For callers who show no progress."""


class Registry:
    """The versions of one home. Blocking: registering takes as long as TensorFlow takes."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        clock: Clock | None = None,
        steps: Steps | None = None,
    ) -> None:
        self._home = home
        self._store = store
        self._clock = clock or SystemClock()
        self._steps = steps or Steps()

    def register(self, name: str, asked: Asked, *, actor: str = "unknown", progress: Progress = _silent) -> Version:
        """Fetch the source if it is elsewhere, prepare it, keep the package, give it the next version number of `name`.

        A kill at any moment leaves no version or a whole one. Raises InvalidInput for a bad name, lineage or model,
        NotFound for a source that is not there, Unavailable when the disk is full, the time is over, or the place of
        the source does not answer."""
        check_model_name(name)
        sources = Sources(asked)
        sources.check()
        self.collect_garbage()  # what a killed registration left may fill the very disk this one needs
        with disk_full_is_said(self._home.packages), staging(self._home) as place:
            reach("register.staging_made")
            remote = FetchSpec(sources.source, str(place.fetched), asked.mlflow_uri)
            fetched = self._fetch(remote, place, name, progress)
            reach("register.fetched")
            with called_by_its_address(fetched, progress) as tell:
                made = self._prepare(sources.spec(place, fetched), place, name, tell)
            manifest = self._seal(place, made, progress)
            origin = fetched.source if fetched is not None else made.source or sources.source
            return self._publish(place, made, manifest, name=name, source=origin, actor=actor)

    def delete(self, name: str, version: int, *, actor: str = "unknown") -> Version:
        """Forget a version and remove its package when no other version shares it. Raises NotFound, and Conflict while
        it is deployed."""
        with shelves_locked(self._home):
            gone, needed = self._store.remove_version(name, version, actor=actor, at=self._clock.wall())
            reach("delete.committed")
            if not needed:
                take_off_shelf(self._home, gone.digest)
        return gone

    def collect_garbage(self) -> tuple[str, ...]:
        """Remove what killed processes left behind; called at the start of a gateway. Returns what was removed."""
        with shelves_locked(self._home):
            gone = collect(self._home, self._store.digests())
        if gone:
            log.info("removed %d leftovers of interrupted registrations", len(gone))
        return gone

    def models(self) -> tuple[str, ...]:
        return self._store.model_names()

    def versions(self, name: str) -> tuple[Version, ...]:
        """Oldest first. Raises NotFound for a model without versions."""
        found = self._store.versions(name)
        if not found:
            self._store.version(name, 1)  # raises, and names what is there instead
        return found

    def version(self, name: str, version: int) -> Version:
        return self._store.version(name, version)

    def manifest(self, name: str, version: int) -> Manifest:
        """The whole description of one version, read from its package."""
        return read_manifest(self._home.package(self._store.version(name, version).digest))

    def history(self, name: str, limit: int = 100) -> tuple[Event, ...]:
        """Newest first. Raises NotFound for a model nobody ever registered."""
        events = self._store.history(name, limit)
        if not events:
            self._store.version(name, 1)
        return events

    def _fetch(self, spec: FetchSpec, place: Staging, name: str, progress: Progress) -> Fetched | None:
        """None for a source that is on this machine already."""
        if not is_elsewhere(spec.source):
            return None
        return self._steps.fetch(spec, inherit=place.lock, log_path=self._log_path(name, place), progress=progress)

    def _prepare(self, spec: PrepareSpec, place: Staging, name: str, progress: Progress) -> Prepared:
        log_path = self._log_path(name, place)
        made = self._steps.prepare(spec, inherit=place.lock, log_path=log_path, progress=progress)
        reach("register.prepared")
        return made

    def _log_path(self, name: str, place: Staging) -> Path:
        return self._home.logs / f"prepare-{name}-{place.root.name[:8]}.log"

    def _seal(self, place: Staging, made: Prepared, progress: Progress) -> Manifest:
        """Trust nothing that a model's process wrote until every byte is checked and on the disk."""
        progress("verify", made.digest[:12])
        manifest = verify(place.package, made.digest)
        reach("register.verified")
        make_durable(place.package)
        reach("register.synced")
        return manifest

    def _publish(
        self, place: Staging, made: Prepared, manifest: Manifest, *, name: str, source: str, actor: str
    ) -> Version:
        """Package first, row second: a row without its package would be a version nobody can start. A package without
        its row is invisible and collected later."""
        with shelves_locked(self._home):
            put_on_shelf(self._home, place.package, made.digest)
            seconds = best_seconds_per_row(manifest.plan_report(manifest.plan))
            lineage = lineage_to_json(manifest.lineage)
            new = Version(name, 0, made.digest, manifest.plan, source, self._clock.wall(), seconds, lineage)
            version = self._store.add_version(new, actor=actor)
        reach("register.committed")
        log.info("model %s: version %d registered, package %s", name, version.version, made.digest[:12])
        return version


def best_seconds_per_row(report: PlanReport) -> float | None:
    """The cheapest measured row over all batch sizes, None when nothing was timed."""
    return min((seconds / int(rows) for rows, seconds in report.seconds_per_run.items()), default=None)


@contextmanager
def disk_full_is_said(where: Path) -> Iterator[None]:
    """A full disk or an exhausted quota becomes a sentence; other errors of the system rise as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = os.statvfs(where)
        raise Unavailable(
            f"no space left on the disk of {where} ({free.f_bavail * free.f_frsize >> 20} MiB free); "
            "nothing was registered. Free space and register again"
        ) from error
