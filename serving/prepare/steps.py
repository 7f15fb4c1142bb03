"""Source model → verified package. `_prepare` is the table of contents; the steps' substance is in the modules beside.

Works on the copy that was scanned, writes only into the output directory, and leaves either a whole package or nothing.
"""

import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from contracts.clock import Clock
from contracts.errors import InvalidInput
from contracts.package import Manifest, PlanReport, digest_of, list_files
from contracts.prepare import PrepareSpec
from contracts.signature import Signature
from serving.engine.base import Array, Engine
from serving.engine.samples import Samples, write_samples
from serving.prepare import pack, savedmodel, source
from serving.prepare.choose import choose
from serving.prepare.given import read_given
from serving.prepare.isolated import DiedOrLate, is_full_disk
from serving.prepare.measure import Measured, measure_reference
from serving.prepare.ports import Runtime
from serving.prepare.rows import fixed_dimension, influence
from serving.prepare.samples import Case, Given, SignatureCases, brief, run, settle
from serving.prepare.scan import refuse_forbidden, refuse_missing_variables
from serving.prepare.scan_keras import refuse_unsafe_keras
from serving.prepare.stages import LONGEST, Tell
from serving.prepare.warmup_records import read_warm_up

TENSORFLOW_PATH = "plans/tensorflow"
LITERT_PATH = "plans/litert/model.tflite"
SAMPLES_PATH = "samples/samples.npz"
MAX_SAMPLE_BYTES = 64 * 1024 * 1024  # in the package, all signatures together
_STAGING = ".staging"
_FEW_ROWS = 4  # fewer given rows than this are too few to see rows influence each other


@dataclass(frozen=True)
class Prepared:
    """What the caller is told: the package's digest and the plan that serves."""

    digest: str
    plan: str


@dataclass(frozen=True)
class Model:
    """The scanned SavedModel: its place in the package, what it takes and gives, samples from a person or from its own
    warm-up records, and a sentence about these for the report."""

    path: Path
    signatures: tuple[Signature, ...]
    given: Mapping[str, Given]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What running the model showed: signatures with `batched` as measured, the cases of each by name, and sentences
    for the report: where samples came from, and every signature whose rows must not be joined."""

    signatures: tuple[Signature, ...]
    cases: Mapping[str, SignatureCases]
    notes: tuple[str, ...]

    @property
    def runs(self) -> dict[str, tuple[Case, ...]]:
        return {name: found.cases for name, found in self.cases.items()}

    @property
    def unchecked(self) -> tuple[str, ...]:
        return tuple(f'"{name}" was not run: {found.why_none}' for name, found in self.cases.items() if not found.cases)


def prepare(spec: PrepareSpec, tell: Tell, clock: Clock, open_runtime: Callable[[], Runtime]) -> Prepared:
    """Write a package into `spec.output`. Raises the errors of contracts.errors, after emptying the output again.

    `open_runtime` imports TensorFlow, which is why it is called only when the source passed the scan.
    """
    output = pack.open_output(spec.output)
    try:
        return _prepare(spec, output, tell, clock, open_runtime)
    except BaseException:
        pack.empty(output)
        raise


def _prepare(
    spec: PrepareSpec, output: Path, tell: Tell, clock: Clock, open_runtime: Callable[[], Runtime]
) -> Prepared:
    lineage = pack.read_lineage(spec.lineage)
    tell("copy", spec.source)
    found = source.recognise(spec.source)
    copy = _copy(found, output)
    source_digest = source.digest_of_copy(copy)
    tell("scan", f"{found.kind} {source_digest[:12]}")
    model = None
    if found.kind == source.KIND_KERAS:
        refuse_unsafe_keras(copy, copy.parent)
    else:
        model = _scan(copy, spec)  # before TensorFlow's import, which takes seconds
    tell("import", "TensorFlow")
    runtime = open_runtime()
    try:
        if model is None:
            tell("export", "the .keras file as a SavedModel")
            model = _export(runtime, copy, output / TENSORFLOW_PATH, spec)
        tell("load", f"signatures {', '.join(s.name for s in model.signatures)}")
        runtime.start_conversion(model.path, output / LITERT_PATH, model.signatures)
        reference = _load(runtime, model)
        tell("samples", "; ".join(model.notes) or ("given" if model.given else "generated from the signature"))
        cases = {s.name: settle(reference, s, model.given.get(s.name), clock.monotonic) for s in model.signatures}
        tell("rows", "whether rows influence each other")
        findings = _measure_rows(reference, model, cases, clock)
        tell("convert", "litert")
        why_not_litert = _conversion(runtime)
        tell("verify", "plans against TensorFlow's own outputs, and their speed")
        measured = (
            _tensorflow_report(runtime, reference, findings, clock),
            _litert_report(runtime, output, findings, why_not_litert, clock),
        )
        reference.close()
    finally:
        runtime.close()
    plan, reports = choose(measured)
    tell("write", f"package with plan {plan}")
    _write_samples(output, findings)
    shutil.rmtree(output / _STAGING, ignore_errors=True)
    chosen = next(report for report in reports if report.name == plan)
    manifest = Manifest(
        source_kind=found.kind,
        source_digest=source_digest,
        plan=plan,
        plans=reports,
        signatures=findings.signatures,
        buckets=_buckets(findings.signatures, chosen),
        warmup=SAMPLES_PATH if (output / SAMPLES_PATH).exists() else None,
        files=list_files(output),
        lineage=lineage,
        created_at=datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="milliseconds"),
        prepared_with=dict(runtime.versions) | _versions(),
    )
    pack.flush(output)
    pack.write_manifest(output, manifest)
    return Prepared(digest_of(manifest), plan)


def _copy(found: source.Source, output: Path) -> Path:
    """A SavedModel goes straight to its place in the package, a .keras file into the staging directory."""
    if found.kind == source.KIND_KERAS:
        target = output / _STAGING / "source.keras"
        source.copy_file(found.path, target)
        return target
    target = output / TENSORFLOW_PATH
    source.copy_saved_model(found.path, target)
    return target


def _scan(saved_model: Path, spec: PrepareSpec) -> Model:
    graphs = savedmodel.read(saved_model / savedmodel.MODEL_FILE)
    refuse_forbidden(graphs)
    refuse_missing_variables(graphs, saved_model)
    signatures = graphs[0].signatures
    if spec.samples is not None:
        name, inputs = read_given(Path(spec.samples), signatures)
        return Model(saved_model, signatures, {name: Given((inputs,))})
    warm_up = read_warm_up(saved_model, signatures)
    if warm_up is None:
        return Model(saved_model, signatures, {})
    return Model(saved_model, signatures, warm_up.given, (warm_up.note,))


def _export(runtime: Runtime, keras_file: Path, target: Path, spec: PrepareSpec) -> Model:
    target.parent.mkdir(parents=True, exist_ok=True)
    runtime.export_keras(keras_file, target)
    return _scan(target, spec)  # a custom object that slipped through would show here


def _load(runtime: Runtime, model: Model) -> Engine:
    try:
        return runtime.reference(model.path, model.signatures)
    except Exception as error:
        if is_full_disk(error):
            raise
        raise InvalidInput(
            f"source: TensorFlow does not load it: {brief(error)}: is it complete, and does it need custom operations?"
        ) from error


def _measure_rows(reference: Engine, model: Model, cases: Mapping[str, SignatureCases], clock: Clock) -> Findings:
    measured, notes = [], list(model.notes)
    for signature in model.signatures:
        why = _why_not_batched(reference, signature, cases[signature.name], clock)
        measured.append(replace(signature, batched=why is None))
        if why is not None:
            notes.append(f'rows of "{signature.name}" are not joined across callers: {why}')
    return Findings(tuple(measured), cases, tuple(notes))


def _why_not_batched(reference: Engine, signature: Signature, found: SignatureCases, clock: Clock) -> str | None:
    if (why := fixed_dimension(signature)) is not None:
        return why
    cases = found.cases
    if found.given and len(next(iter(cases[0].inputs.values()))) < _FEW_ROWS:
        cases += settle(reference, signature, None, clock.monotonic).cases[:1]
    if not cases:
        return f"it could not be measured, {found.why_none}"
    for case in cases:
        why = influence(lambda inputs: run(reference, signature, inputs), case.inputs, case.outputs)
        if why is not None:
            return why
    return None


def _conversion(runtime: Runtime) -> str | None:
    try:
        why_not: str | None = runtime.result(LONGEST["convert"] / 2)
    except (DiedOrLate, RuntimeError) as error:
        return f"the conversion {error}"
    return why_not


def _tensorflow_report(runtime: Runtime, reference: Engine, findings: Findings, clock: Clock) -> PlanReport:
    """TensorFlow is correct by definition; it is measured all the same, for its speed and for answers that change."""
    measured = measure_reference(reference, findings.signatures, findings.runs, clock.monotonic)
    unsteady = (f"it does not always give the same answer: {measured.wrong}",) if measured.wrong else ()
    version = runtime.versions["tensorflow"]
    reason = "; ".join((f"the reference, TensorFlow {version}", *unsteady, *findings.unchecked, *findings.notes))
    return _report("tensorflow", "passed", reason, TENSORFLOW_PATH, measured)


def _litert_report(runtime: Runtime, output: Path, findings: Findings, why_not: str | None, clock: Clock) -> PlanReport:
    unchecked = "; ".join(findings.unchecked)
    measured = Measured()
    if why_not is None and not unchecked:
        runtime.start_measuring(output / LITERT_PATH, findings.signatures, findings.runs, clock.monotonic)
        try:
            measured = runtime.result(LONGEST["verify"] / 2)
            why_not = measured.wrong
        except (DiedOrLate, RuntimeError) as error:
            why_not = f"running the converted model failed: {error}"
    if why_not is not None or unchecked:
        shutil.rmtree((output / LITERT_PATH).parent, ignore_errors=True)
        status = "failed" if why_not is not None else "skipped"
        return _report("litert", status, why_not or unchecked, None, measured)
    found = measured.difference
    reason = f"matches TensorFlow on {measured.rows_checked} rows, off by at most {found.max_abs_error:.2g}"
    return _report("litert", "passed", reason, LITERT_PATH, measured)


def _report(name: str, status: str, reason: str, path: str | None, measured: Measured) -> PlanReport:
    compared = measured.rows_checked > 0
    return PlanReport(
        name=name,
        status=status,
        reason=reason,
        path=path,
        max_abs_error=measured.difference.max_abs_error if compared else None,
        argmax_flips=measured.difference.argmax_flips if compared else None,
        rows_checked=measured.rows_checked if compared else None,
        seconds_per_run={str(size): seconds for size, seconds in measured.seconds.items()},
    )


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
        size += sum(array.nbytes for arrays in (found[0].inputs, outputs) for array in arrays.values())
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
