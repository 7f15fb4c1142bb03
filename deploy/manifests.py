"""What the packages on this machine say to somebody who is about to deploy one: how many workers fit, and whether a
candidate takes and answers what callers of the live version know. Judging is deploy.rollout's."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.errors import TealError
from contracts.machine import cores
from contracts.package import Manifest, read_manifest
from contracts.signature import Signature
from contracts.sizing import replicas_for
from deploy.rollout import preflight
from deploy.store.records import Version

log = logging.getLogger(__name__)


class Manifests:
    """`package_of` finds a package by its digest. One that cannot be read is nobody's hindrance here: the worker that
    is to serve it will say what is wrong."""

    def __init__(self, package_of: Callable[[str], Path]) -> None:
        self._package_of = package_of

    def replicas_of(self, version: Version) -> int:
        """Workers for a model's first version; one when its package does not say."""
        manifest = self._read(version.digest)
        if manifest is None:
            return 1
        chosen = next((p for p in manifest.plans if p.name == manifest.plan), None)
        size = replicas_for(asked=None, measured=None if chosen is None else chosen.threads, cores=cores())
        log.info("model %s version %d gets %s", version.model, version.version, size.reason)
        return size.count

    def problems(self, live: str, candidate: str) -> tuple[str, ...]:
        """How the candidate's signatures do not fit those of the live version (digests), as sentences."""
        here, there = self._read(live), self._read(candidate)
        return () if here is None or there is None else preflight.problems(_signatures(here), _signatures(there))

    def renamed(self, live: str, candidate: str) -> tuple[str, ...]:
        """What only those callers would notice who name an only input or output."""
        here, there = self._read(live), self._read(candidate)
        return () if here is None or there is None else preflight.renamed(_signatures(here), _signatures(there))

    def _read(self, digest: str) -> Manifest | None:
        try:
            return read_manifest(self._package_of(digest))
        except TealError as error:
            log.warning("package %s: %s", digest[:12], error.message)
            return None


def _signatures(manifest: Manifest) -> Mapping[str, Signature]:
    return {signature.name: signature for signature in manifest.signatures}
