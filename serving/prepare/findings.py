"""What running a model showed, whichever runtime runs it: sample cases, whether rows may be joined, what to report.

Asks an engine and decides; where the engine comes from, and which plans there are, is decided by the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.clock import Clock
from contracts.package import PlanReport
from contracts.signature import Signature
from serving.engine.base import Engine
from serving.prepare.compare import Shares
from serving.prepare.measure import Measured
from serving.prepare.rows import fixed_dimension, influence
from serving.prepare.samples import FEW_ROWS, Case, Given, SignatureCases, run, settle


@dataclass(frozen=True)
class Model:
    """A scanned model: its place in the package, what it takes and gives, samples from a person or from its own
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


def settle_all(reference: Engine, model: Model, clock: Clock) -> dict[str, SignatureCases]:
    """The cases of every signature, by name."""
    return {s.name: settle(reference, s, model.given.get(s.name), clock.monotonic) for s in model.signatures}


def measure_rows(reference: Engine, model: Model, cases: Mapping[str, SignatureCases], clock: Clock) -> Findings:
    """Ask the reference whether rows influence each other, signature by signature."""
    measured, notes = [], [*model.notes, *(found.note for found in cases.values() if found.note is not None)]
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
    if found.given and len(next(iter(cases[0].inputs.values()))) < FEW_ROWS:
        cases += settle(reference, signature, None, clock.monotonic).cases[:1]
    if not cases:
        return f"it could not be measured, {found.why_none}"
    for case in cases:
        why = influence(lambda inputs: run(reference, signature, inputs), case.inputs, case.outputs)
        if why is not None:
            return why
    return None


def report_on(
    name: str,
    status: str,
    reason: str,
    path: str | None,
    measured: Measured,
    *,
    tolerance: Mapping[str, Shares] | None = None,
    precision: str | None = None,
) -> PlanReport:
    compared = measured.rows_checked > 0
    by_threads = {str(n): _as_text(seconds) for n, seconds in measured.by_threads.items()}
    return PlanReport(
        name=name,
        status=status,
        reason=reason,
        path=path,
        max_abs_error=measured.difference.max_abs_error if compared else None,
        argmax_flips=measured.difference.argmax_flips if compared else None,
        rows_checked=measured.rows_checked if compared else None,
        seconds_per_run=_as_text(measured.seconds),
        max_rel_error=measured.difference.max_rel_error if compared else None,
        tolerance=dict(tolerance or {}) if compared else {},
        precision=precision,
        threads=measured.threads,
        seconds_by_threads=by_threads if len(by_threads) > 1 else {},
    )


def _as_text(seconds: Mapping[int, float]) -> dict[str, float]:
    return {str(size): value for size, value in seconds.items()}
