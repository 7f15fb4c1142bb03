"""Source model → verified package. `_prepare` is the table of contents; the steps' substance is in the modules beside.

Works on the copy that was scanned, writes only into the output directory, and leaves either a whole package or nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contracts.clock import Clock
from contracts.errors import InvalidInput
from contracts.package import PlanReport
from contracts.prepare import PrepareSpec
from contracts.preprocessing import resolve
from serving.engine.base import Engine
from serving.prepare import layout, pack, savedmodel, source
from serving.prepare.choose import choose
from serving.prepare.compare import FULL
from serving.prepare.described import describe, with_mlflow
from serving.prepare.findings import Findings, Model, measure_rows, report_on, settle_all
from serving.prepare.finish import STAGING, Prepared, finish
from serving.prepare.given import read_given
from serving.prepare.isolated import is_full_disk
from serving.prepare.measure import measure_reference
from serving.prepare.plans import TENSORFLOW_PATH
from serving.prepare.ports import LitertRuntime, Runtime
from serving.prepare.samples import Given, brief
from serving.prepare.scan import refuse_forbidden, refuse_missing_variables
from serving.prepare.scan_keras import refuse_unsafe_keras
from serving.prepare.stages import Tell
from serving.prepare.tflite_steps import prepare_tflite
from serving.prepare.trials import Trials, keep_only, tolerances
from serving.prepare.warmup_records import read_warm_up


def prepare(
    spec: PrepareSpec,
    tell: Tell,
    clock: Clock,
    open_runtime: Callable[[], Runtime],
    open_litert: Callable[[], LitertRuntime],
) -> Prepared:
    """Write a package into `spec.output`. Raises the errors of contracts.errors, after emptying the output again.

    `open_runtime` imports TensorFlow, which is why it is called only when the source passed the scan, and never for a
    .tflite file, which needs `open_litert` alone.
    """
    output = pack.open_output(spec.output)
    try:
        found = source.recognise(spec.source)
        if found.kind == layout.KIND_TFLITE:
            prepared = prepare_tflite(spec, found, tell, clock, open_litert)
        else:
            prepared = _prepare(spec, found, tell, clock, open_runtime)
        return replace(prepared, source=str(found.path if found.mlflow is None else found.described))
    except BaseException:
        pack.empty(output)
        raise


def _prepare(
    spec: PrepareSpec,
    found: source.Source,
    tell: Tell,
    clock: Clock,
    open_runtime: Callable[[], Runtime],
) -> Prepared:
    output = Path(spec.output)
    lineage = with_mlflow(pack.read_lineage(spec.lineage), found.mlflow)
    declared = pack.read_preprocessing(spec.preprocessing)
    tell("copy", str(found.path))
    copy = _copy(found, output)
    source_digest = source.digest_of_copy(copy)
    tell("scan", f"{found.kind} {source_digest[:12]}")
    model = None
    if found.kind == layout.KIND_KERAS:
        refuse_unsafe_keras(copy, copy.parent)
    else:
        model = _scan(copy, spec, found)  # before TensorFlow's import, which takes seconds
    tell("import", "TensorFlow")
    runtime = open_runtime()
    try:
        if model is None:
            tell("export", "the .keras file as a SavedModel")
            model = _export(runtime, copy, output / TENSORFLOW_PATH, spec, found)
        if declared is not None:
            resolve(declared, model.signatures)
        tell("load", f"signatures {', '.join(s.name for s in model.signatures)}")
        trials = Trials(runtime, model, output, reduced_precision=spec.reduced_precision)
        trials.start()
        reference = _load(runtime, model)
        tell("samples", "; ".join(model.notes) or ("given" if model.given else "generated from the signature"))
        cases = settle_all(reference, model, clock)
        tell("rows", "whether rows influence each other")
        findings = measure_rows(reference, model, cases, clock)
        tell("convert", "plans that may be faster")
        trials.convert()
        tell("verify", "plans against TensorFlow's own outputs, and their speed")
        measured = (_tensorflow_report(runtime, reference, findings, clock), *trials.reports(findings, clock))
        reference.close()
    finally:
        runtime.close()
    plan, reports = choose(measured)
    tell("write", f"package with plan {plan}")
    return finish(
        output,
        source_kind=found.kind,
        source_digest=source_digest,
        plan=plan,
        reports=keep_only(output, reports),
        findings=findings,
        lineage=lineage,
        preprocessing=declared,
        versions=runtime.versions,
        clock=clock,
    )


def _copy(found: source.Source, output: Path) -> Path:
    """A SavedModel goes straight to its place in the package, a .keras file into the staging directory."""
    if found.kind == layout.KIND_KERAS:
        target = output / STAGING / "source.keras"
        source.copy_file(found.path, target)
        return target
    target = output / TENSORFLOW_PATH
    source.copy_saved_model(found.path, target)
    return target


def _scan(saved_model: Path, spec: PrepareSpec, found: source.Source) -> Model:
    graphs = savedmodel.read(saved_model / savedmodel.MODEL_FILE)
    refuse_forbidden(graphs)
    refuse_missing_variables(graphs, saved_model)
    signatures = graphs[0].signatures
    if spec.samples is not None:
        name, inputs = read_given(Path(spec.samples), signatures)
        return Model(saved_model, signatures, {name: Given((inputs,))})
    described = describe(found, signatures)
    warm_up = read_warm_up(saved_model, signatures)
    if warm_up is None:
        return Model(saved_model, signatures, described.given, described.notes)
    # What callers really sent says more than one example.
    return Model(saved_model, signatures, {**described.given, **warm_up.given}, (warm_up.note, *described.notes))


def _export(runtime: Runtime, keras_file: Path, target: Path, spec: PrepareSpec, found: source.Source) -> Model:
    target.parent.mkdir(parents=True, exist_ok=True)
    runtime.export_keras(keras_file, target)
    return _scan(target, spec, found)  # a custom object that slipped through would show here


def _load(runtime: Runtime, model: Model) -> Engine:
    try:
        return runtime.reference(model.path, model.signatures)
    except Exception as error:
        if is_full_disk(error):
            raise
        raise InvalidInput(
            f"source: TensorFlow does not load it: {brief(error)}: is it complete, and does it need custom operations?"
        ) from error


def _tensorflow_report(runtime: Runtime, reference: Engine, findings: Findings, clock: Clock) -> PlanReport:
    """TensorFlow is correct by definition; it is measured all the same, for its speed and for answers that change."""
    measured = measure_reference(reference, findings.signatures, findings.runs, clock.monotonic)
    unsteady = (f"it does not always give the same answer: {measured.wrong}",) if measured.wrong else ()
    version = runtime.versions["tensorflow"]
    reason = "; ".join((f"the reference, TensorFlow {version}", *unsteady, *findings.unchecked, *findings.notes))
    timed = replace(measured, threads=runtime.threads)
    allowed = tolerances(FULL, findings.signatures)
    return report_on("tensorflow", "passed", reason, TENSORFLOW_PATH, timed, tolerance=allowed)
