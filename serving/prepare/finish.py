"""The end of preparing: samples and manifest are written, and the directory is a package.

Knows what a package holds; what was measured, and which plan serves, was decided before.
"""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from contracts.clock import Clock
from contracts.package import Lineage, Manifest, PlanReport, digest_of, list_files
from contracts.preprocessing import Preprocessing
from contracts.signature import Signature
from serving.engine.base import Array
from serving.engine.samples import Samples, write_samples
from serving.prepare import pack
from serving.prepare.findings import Findings
from serving.prepare.samples import size_of

SAMPLES_PATH = "samples/samples.npz"
MAX_SAMPLE_BYTES = 64 * 1024 * 1024  # in the package, all signatures together
STAGING = ".staging"


@dataclass(frozen=True)
class Prepared:
    """What the caller is told: the package's digest, the plan that serves, and where the model was taken from."""

    digest: str
    plan: str
    source: str = ""


def finish(
    output: Path,
    *,
    source_kind: str,
    source_digest: str,
    plan: str,
    reports: Sequence[PlanReport],
    findings: Findings,
    lineage: Lineage,
    preprocessing: Preprocessing | None,
    versions: Mapping[str, str],
    clock: Clock,
) -> Prepared:
    """Make a package of the directory, whose plan files are in place."""
    _write_samples(output, findings)
    shutil.rmtree(output / STAGING, ignore_errors=True)
    chosen = next(report for report in reports if report.name == plan)
    manifest = Manifest(
        source_kind=source_kind,
        source_digest=source_digest,
        plan=plan,
        plans=tuple(reports),
        signatures=findings.signatures,
        buckets=_buckets(findings.signatures, chosen),
        warmup=SAMPLES_PATH if (output / SAMPLES_PATH).exists() else None,
        files=list_files(output),
        lineage=lineage,
        created_at=datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="milliseconds"),
        prepared_with=dict(versions) | _versions(),
        preprocessing=preprocessing,
    )
    pack.flush(output)
    pack.write_manifest(output, manifest)
    return Prepared(digest_of(manifest), plan)


def _buckets(signatures: tuple[Signature, ...], chosen: PlanReport) -> tuple[int, ...]:
    """The batch sizes at which the chosen plan was timed; one row at a time when nothing may be joined."""
    if not any(s.batched for s in signatures) or not chosen.seconds_per_run:
        return (1,)
    return tuple(sorted(int(size) for size in chosen.seconds_per_run))


def _write_samples(output: Path, findings: Findings) -> None:
    """The first case of each signature, as long as the format and the limit hold them."""
    kept: dict[str, Samples] = {}
    size = 0
    for signature in findings.signatures:
        found = findings.runs[signature.name]
        if not found or "/" in signature.name or not _portable(found[0].inputs):
            continue
        outputs = found[0].outputs if _portable(found[0].outputs) else {}
        size += size_of(found[0].inputs) + size_of(outputs)
        if size <= MAX_SAMPLE_BYTES:
            kept[signature.name] = Samples(found[0].inputs, outputs)
    if kept:
        (output / SAMPLES_PATH).parent.mkdir(parents=True, exist_ok=True)
        write_samples(output / SAMPLES_PATH, kept)


def _portable(arrays: Mapping[str, Array]) -> bool:
    """Whether an .npz can hold them: numpy has no bfloat16 of its own."""
    return all(array.dtype.kind in "biufcO" for array in arrays.values())


def _versions() -> dict[str, str]:
    return {"numpy": np.__version__, "python": platform.python_version(), "teal": metadata.version("teal")}
