"""Homes with the models that benchmarks need: registered as anybody would, or a second time with another plan."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from contracts.errors import NotFound
from contracts.package import MANIFEST, Manifest, digest_of, lineage_to_json, manifest_to_json, read_manifest
from deploy.home import Home
from deploy.registry.registry import best_seconds_per_row
from deploy.registry.staging import put_on_shelf, shelves_locked, staging
from deploy.store.at_home import open_store
from deploy.store.records import Version
from loadtests import models
from loadtests.command import say
from tests.e2e.gateway import Gateway

REGISTER_SECONDS = 900.0


@contextmanager
def fresh_home() -> Iterator[Path]:
    """A home that is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="teal-bench-") as folder:
        yield Path(folder, "home")


def register(home: Path, model: str, source: str) -> Path:
    """Register a model of loadtests.models as the next version of `model`; return its package. `digits/dense` is the
    dense model of the digits, with its samples."""
    say(f"registering {source} as {model}")
    name, _, kind = source.partition("/")
    folder = models.folder_of(name)
    extra = ["--samples", str(folder / f"{kind}.samples.npz")] if kind else []
    made = Gateway(home).must("register", model, str(folder / kind), *extra, timeout=REGISTER_SECONDS)
    return home / "packages" / str(made["digest"])


def register_with_plan(home: Path, package: Path, plan: str, model: str) -> Path:
    """Register `package` again as the next version of `model`, now with `plan` chosen: the same files, the same
    verification, another manifest and so another digest. Raises NotFound when that plan did not pass."""
    manifest = with_plan(read_manifest(package), plan)
    digest = digest_of(manifest)
    place = Home(home)
    store = open_store(place, None)
    try:
        with staging(place) as stage:
            shutil.copytree(package, stage.package, dirs_exist_ok=True)
            (stage.package / MANIFEST).chmod(0o644)
            (stage.package / MANIFEST).write_text(json.dumps(manifest_to_json(manifest)))
            with shelves_locked(place):
                kept = put_on_shelf(place, stage.package, digest)
                seconds = best_seconds_per_row(manifest.plan_report(plan))
                lineage = lineage_to_json(manifest.lineage)
                new = Version(model, 0, digest, plan, str(package), time.time(), seconds, lineage)
                store.add_version(new, actor="benchmark")
    finally:
        store.close()
    return kept


def with_plan(manifest: Manifest, plan: str) -> Manifest:
    """The same package with another plan chosen. Raises NotFound when that one did not pass."""
    able = {report.name for report in manifest.plans if report.status in ("chosen", "passed") and report.path}
    if plan not in able:
        raise NotFound(f"plan {plan!r} is not in the package: expected one of {', '.join(sorted(able))}")
    status = {manifest.plan: "passed", plan: "chosen"}  # in this order: the plan may be chosen already
    plans = tuple(replace(report, status=status.get(report.name, report.status)) for report in manifest.plans)
    return replace(manifest, plan=plan, plans=plans)
