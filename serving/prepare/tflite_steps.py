"""A .tflite file → verified package. `prepare_tflite` is the table of contents.

There is no TensorFlow model to compare such a file with: its own answers are the reference, and what is verified is
that they stay the same in every company of rows. TensorFlow is not imported.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contracts.clock import Clock
from contracts.errors import InvalidInput
from contracts.package import PlanReport
from contracts.prepare import PrepareSpec
from contracts.preprocessing import resolve
from contracts.signature import Signature
from serving.prepare import pack, source
from serving.prepare.choose import choose
from serving.prepare.findings import Findings, Model, measure_rows, report_on, settle_all
from serving.prepare.finish import Prepared, finish
from serving.prepare.given import read_given
from serving.prepare.isolated import DiedOrLate
from serving.prepare.measure import Measured
from serving.prepare.plans import LITERT_PATH
from serving.prepare.ports import LitertRuntime
from serving.prepare.samples import Given
from serving.prepare.stages import LONGEST, Tell


def prepare_tflite(
    spec: PrepareSpec,
    found: source.Source,
    tell: Tell,
    clock: Clock,
    open_litert: Callable[[], LitertRuntime],
) -> Prepared:
    """Write a package into `spec.output`, which the caller empties when this raises."""
    output = Path(spec.output)
    lineage = pack.read_lineage(spec.lineage)
    declared = pack.read_preprocessing(spec.preprocessing)
    tell("copy", spec.source)
    copy = output / LITERT_PATH
    source.copy_file(found.path, copy)
    source_digest = source.digest_of_copy(copy)
    tell("scan", f"{found.kind} {source_digest[:12]}")
    runtime = open_litert()
    try:
        signatures = runtime.signatures(copy)
        model = Model(copy, signatures, _given(spec, signatures))
        if declared is not None:
            resolve(declared, signatures)
        tell("load", f"signatures {', '.join(s.name for s in signatures)}")
        reference = runtime.reference(model.path, model.signatures)
        tell("samples", "given" if model.given else "generated from the signature")
        cases = settle_all(reference, model, clock)
        tell("rows", "whether rows influence each other")
        findings = measure_rows(reference, model, cases, clock)
        reference.close()
        tell("verify", "its answers at every batch size, and its speed")
        findings, report = _verified(runtime, copy, findings, clock)
    except (DiedOrLate, RuntimeError) as error:
        raise InvalidInput(
            f"source: LiteRT does not run it: {error}: is it complete, and does it need custom operations?"
        ) from error
    finally:
        runtime.close()
    plan, reports = choose((report,))
    tell("write", f"package with plan {plan}")
    return finish(
        output,
        source_kind=found.kind,
        source_digest=source_digest,
        plan=plan,
        reports=reports,
        findings=findings,
        lineage=lineage,
        preprocessing=declared,
        versions=runtime.versions,
        clock=clock,
    )


def _given(spec: PrepareSpec, signatures: tuple[Signature, ...]) -> dict[str, Given]:
    if spec.samples is None:
        return {}
    name, inputs = read_given(Path(spec.samples), signatures)
    return {name: Given((inputs,))}


def _verified(runtime: LitertRuntime, copy: Path, findings: Findings, clock: Clock) -> tuple[Findings, PlanReport]:
    """Run the file as a worker will, at every batch size. Where that changes an answer, no rows are joined."""
    measured = _measured(runtime, copy, findings, clock)
    notes = [*findings.unchecked, *findings.notes]
    if measured.wrong is not None and any(s.batched for s in findings.signatures):
        notes.append(f"rows are not joined across callers: {measured.wrong}")
        findings = replace(findings, signatures=tuple(replace(s, batched=False) for s in findings.signatures))
        measured = _measured(runtime, copy, findings, clock)
    if measured.wrong is not None:
        notes.append(f"it does not always give the same answer: {measured.wrong}")
    version = runtime.versions["litert"]
    origin = f"the file itself, run by LiteRT {version}; there is no TensorFlow model to compare it with"
    report = report_on("litert", "passed", "; ".join((origin, *notes)), LITERT_PATH, measured)
    # These fields speak of differences from TensorFlow, and nobody knows any.
    return findings, replace(report, max_abs_error=None, max_rel_error=None, argmax_flips=None, rows_checked=None)


def _measured(runtime: LitertRuntime, copy: Path, findings: Findings, clock: Clock) -> Measured:
    runtime.start_measuring(copy, findings.signatures, findings.runs, clock.monotonic)
    measured: Measured = runtime.result(LONGEST["verify"] / 3)
    return measured
