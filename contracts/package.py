"""A package: one immutable model version on disk, written by prepare, kept by the registry, loaded by the worker.

    PACKAGE/
      manifest.json          everything below, and the sha256 of every other file
      plans/litert/model.tflite
      plans/tensorflow/…     the SavedModel as it came
      samples/….npz          inputs for warm-up, with TensorFlow's own answers beside them

The digest of a package is the sha256 of its manifest in canonical JSON. Because the manifest lists the sha256 of
every file, the digest names every byte of the version.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts import preprocessing
from contracts.errors import InvalidInput, NotFound
from contracts.preprocessing import Preprocessing
from contracts.signature import Signature, signature_from_json, signature_to_json

FORMAT = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PackageFile:
    """One file of a package: POSIX path relative to the package, lower-case hex sha256, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PlanReport:
    """What prepare found out about one way of running the model.

    status       "chosen", "passed" (correct but slower), "failed" (wrong answers or does not run), "skipped"
    reason       one sentence
    max_abs_error, argmax_flips, rows_checked   against TensorFlow's own outputs; None when nothing was compared
    max_rel_error     the largest error as a share of the largest value of the output it was found in
    seconds_per_run   batch size (as text, JSON keys are text) → median seconds of one run at that size
    tolerance         dtype → (share of the output's largest value, share of the value itself) an error may reach
    precision         what was given up for speed, e.g. "8-bit weights"; None for a plan in full precision
    threads           threads inside one run that `seconds_per_run` was measured with; None when nobody compared
    seconds_by_threads   number of threads (as text) → as `seconds_per_run`; empty when only one number was timed
    """

    name: str
    status: str
    reason: str
    path: str | None = None
    max_abs_error: float | None = None
    argmax_flips: int | None = None
    rows_checked: int | None = None
    seconds_per_run: Mapping[str, float] = field(default_factory=dict)
    max_rel_error: float | None = None
    tolerance: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    precision: str | None = None
    threads: int | None = None
    seconds_by_threads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from, as recorded at registration. Everything may be unknown (None or empty)."""

    training_run: str | None = None
    dataset: str | None = None
    dataset_digest: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The description of a package. `plan` is the name of the chosen plan report.

    `warmup` is the package-relative path of the .npz with sample inputs, or None when there are none.
    `buckets` are the batch sizes the worker prepares for, ascending; (1,) for a model whose rows must not be joined.
    `preprocessing` is what was declared so that pictures can be sent as they are, None when nothing was.
    """

    source_kind: str
    source_digest: str
    plan: str
    plans: tuple[PlanReport, ...]
    signatures: tuple[Signature, ...]
    buckets: tuple[int, ...]
    warmup: str | None
    files: tuple[PackageFile, ...]
    lineage: Lineage
    created_at: str
    prepared_with: Mapping[str, str]
    preprocessing: Preprocessing | None = None

    def plan_report(self, name: str) -> PlanReport:
        return next(report for report in self.plans if report.name == name)

    def signature(self, name: str) -> Signature | None:
        return next((s for s in self.signatures if s.name == name), None)


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def manifest_to_json(manifest: Manifest) -> dict[str, Any]:
    declared = manifest.preprocessing
    return {
        "format": FORMAT,
        "source": {"kind": manifest.source_kind, "digest": manifest.source_digest},
        "plan": manifest.plan,
        "plans": [_report_to_json(p) for p in manifest.plans],
        "signatures": [signature_to_json(s) for s in manifest.signatures],
        "buckets": list(manifest.buckets),
        "warmup": manifest.warmup,
        "files": [{"path": f.path, "sha256": f.sha256, "size": f.size} for f in manifest.files],
        "lineage": lineage_to_json(manifest.lineage),
        "created_at": manifest.created_at,
        "prepared_with": dict(manifest.prepared_with),
        # Only where declared: packages from before there was such a thing keep their digests.
        **({} if declared is None else {"preprocessing": preprocessing.to_json(declared)}),
    }


def manifest_from_json(value: Mapping[str, Any]) -> Manifest:
    """Raise InvalidInput for a manifest of another format; KeyError does not leave this function."""
    if value.get("format") != FORMAT:
        raise InvalidInput(f"package manifest has format {value.get('format')!r}, this release reads format {FORMAT}")
    declared = value.get("preprocessing")
    try:
        return Manifest(
            source_kind=value["source"]["kind"],
            source_digest=value["source"]["digest"],
            plan=value["plan"],
            plans=tuple(_report_from_json(p) for p in value["plans"]),
            signatures=tuple(signature_from_json(s) for s in value["signatures"]),
            buckets=tuple(value["buckets"]),
            warmup=value["warmup"],
            files=tuple(PackageFile(**f) for f in value["files"]),
            lineage=Lineage(**value["lineage"]),
            created_at=value["created_at"],
            prepared_with=dict(value["prepared_with"]),
            preprocessing=None if declared is None else preprocessing.from_json(declared),
        )
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"package manifest is incomplete: {error}") from error


def _report_to_json(report: PlanReport) -> dict[str, Any]:
    """What came after format 1 was first written is left out where there is nothing to say: the digest of a package
    that an earlier release made must stay what it was."""
    later = {
        "max_rel_error": report.max_rel_error,
        "tolerance": {dtype: list(shares) for dtype, shares in report.tolerance.items()},
        "precision": report.precision,
        "threads": report.threads,
        "seconds_by_threads": {n: dict(seconds) for n, seconds in report.seconds_by_threads.items()},
    }
    return {
        "name": report.name,
        "status": report.status,
        "reason": report.reason,
        "path": report.path,
        "max_abs_error": report.max_abs_error,
        "argmax_flips": report.argmax_flips,
        "rows_checked": report.rows_checked,
        "seconds_per_run": dict(report.seconds_per_run),
    } | {key: value for key, value in later.items() if value not in (None, {})}


def _report_from_json(value: Mapping[str, Any]) -> PlanReport:
    tolerance = {dtype: (shares[0], shares[1]) for dtype, shares in value.get("tolerance", {}).items()}
    return PlanReport(**{**value, "tolerance": tolerance})


def lineage_to_json(lineage: Lineage) -> dict[str, Any]:
    return {
        "training_run": lineage.training_run,
        "dataset": lineage.dataset,
        "dataset_digest": lineage.dataset_digest,
        "parameters": dict(lineage.parameters),
        "metrics": dict(lineage.metrics),
        "git_commit": lineage.git_commit,
        "notes": dict(lineage.notes),
    }


def lineage_from_json(value: Any) -> Lineage:
    """Read what a user wrote. Unknown keys are kept under `notes`; wrong types raise InvalidInput naming the key."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"lineage: expected a JSON object, got {type(value).__name__}")
    known: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for key, item in value.items():
        if key in ("training_run", "dataset", "dataset_digest", "git_commit"):
            if item is not None and not isinstance(item, str):
                raise InvalidInput(f"lineage {key!r}: expected text, got {type(item).__name__}")
            known[key] = item
        elif key in ("parameters", "metrics", "notes"):
            if not isinstance(item, Mapping):
                raise InvalidInput(f"lineage {key!r}: expected an object, got {type(item).__name__}")
            if key == "notes":
                notes.update(item)
            else:
                known[key] = dict(item)
        else:
            notes[key] = item
    return Lineage(**known, notes=notes)


def digest_of(manifest: Manifest) -> str:
    """The package's name: sha256 (hex) of the manifest in canonical JSON."""
    return hashlib.sha256(canonical_json(manifest_to_json(manifest))).hexdigest()


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def list_files(root: Path) -> tuple[PackageFile, ...]:
    """Hash every regular file under `root` except the manifest, sorted by path. Links are refused."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise InvalidInput(
                f"package holds a link, {path.relative_to(root).as_posix()}: only plain files are packed"
            )
        if path.is_file() and path != root / MANIFEST:
            found.append(PackageFile(path.relative_to(root).as_posix(), sha256_of(path), path.stat().st_size))
    return tuple(found)


def read_manifest(root: Path) -> Manifest:
    try:
        return manifest_from_json(json.loads((root / MANIFEST).read_bytes()))
    except FileNotFoundError:
        raise NotFound(f"no package at {root}: {MANIFEST} is missing") from None
    except ValueError as error:
        raise InvalidInput(f"package manifest is not readable JSON: {error}") from error


def verify(root: Path, digest: str) -> Manifest:
    """Read the package at `root` and prove it is `digest`, byte for byte. Raise InvalidInput naming the first
    difference: another manifest, a changed, missing or extra file."""
    manifest = read_manifest(root)
    actual = digest_of(manifest)
    if actual != digest:
        raise InvalidInput(
            f"package manifest has digest {actual[:12]}, expected {digest[:12]}: it was changed after registration"
        )
    expected = {f.path: f for f in manifest.files}
    present = {f.path: f for f in list_files(root)}
    for path, file in expected.items():
        if path not in present:
            raise InvalidInput(f"package {digest[:12]}: file {path} is missing")
        if present[path].sha256 != file.sha256:
            raise InvalidInput(
                f"package {digest[:12]}: file {path} has sha256 {present[path].sha256[:12]}, "
                f"expected {file.sha256[:12]}: it was changed after registration"
            )
    for path in present:
        if path not in expected:
            raise InvalidInput(f"package {digest[:12]}: unexpected file {path}")
    return manifest
