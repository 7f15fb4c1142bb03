"""Tries every candidate beside TensorFlow: converts, checks, times, and says in a report how it went.

Which candidates there are is plans.py, which of them serves is choose.py; nothing that goes wrong with one rises.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from contracts.clock import Clock
from contracts.package import PlanReport
from contracts.signature import Signature
from serving.prepare.choose import FALLBACK
from serving.prepare.compare import Shares, Tolerance
from serving.prepare.findings import Findings, Model, report_on
from serving.prepare.isolated import DiedOrLate
from serving.prepare.measure import Measured
from serving.prepare.plans import FULL_PRECISION, OPENVINO_BFLOAT16, REDUCED_PRECISION, Candidate, openvino_refuses
from serving.prepare.ports import Runtime
from serving.prepare.stages import LONGEST


class Trials:
    """The candidates of one model, with the plans of reduced precision among them when somebody allowed it."""

    def __init__(self, runtime: Runtime, model: Model, output: Path, *, reduced_precision: bool) -> None:
        self._runtime = runtime
        self._model = model
        self._output = output
        self._reduced = REDUCED_PRECISION if reduced_precision else ()
        self._skipped: dict[str, str] = {}  # candidate's name → why it is not even converted
        self._failed: dict[str, str] = {}  # candidate's name → why its conversion came to nothing
        for plan in (*FULL_PRECISION, *self._reduced):
            why = runtime.lacks(plan.runtime) or _refusal(plan, model.signatures)
            if why is not None:
                self._skipped[plan.name] = why

    def start(self) -> None:
        """Begin converting in full precision, one plan in each runtime, while the reference is asked."""
        for plan in FULL_PRECISION:
            if plan.name not in self._skipped:
                self._start_conversion(plan)

    def convert(self) -> None:
        """Return when everything is converted that can be: what is timed after that has the machine to itself."""
        for plan in FULL_PRECISION:
            if plan.name not in self._skipped:
                self._finish_conversion(plan)
        for plan in self._reduced:
            if plan.name not in self._skipped:
                if plan.path == OPENVINO_BFLOAT16.path and "openvino" in self._failed:
                    self._failed[plan.name] = self._failed["openvino"]
                    continue
                self._start_conversion(plan)
                self._finish_conversion(plan)

    def reports(self, findings: Findings, clock: Clock) -> tuple[PlanReport, ...]:
        return tuple(self._report(plan, findings, clock) for plan in (*FULL_PRECISION, *self._reduced))

    def _start_conversion(self, plan: Candidate) -> None:
        self._runtime.start_conversion(plan, self._model.path, self._output / plan.path, self._model.signatures)

    def _finish_conversion(self, plan: Candidate) -> None:
        try:
            why_not: str | None = self._runtime.result(plan.runtime, LONGEST["convert"] / 4)
        except (DiedOrLate, RuntimeError) as error:
            why_not = f"the conversion {error}"
        if why_not is not None:
            self._failed[plan.name] = why_not

    def _report(self, plan: Candidate, findings: Findings, clock: Clock) -> PlanReport:
        why_not, status, measured = self._failed.get(plan.name), "failed", Measured()
        if plan.name in self._skipped:
            why_not, status = self._skipped[plan.name], "skipped"
        elif why_not is None and findings.unchecked:
            why_not, status = "; ".join(findings.unchecked), "skipped"
        if why_not is None:
            measured, why_not = self._measure(plan, findings, clock)
        allowed = tolerances(plan.tolerance, findings.signatures)
        if why_not is not None:
            return report_on(plan.name, status, why_not, None, measured, tolerance=allowed, precision=plan.precision)
        reason = _praise(measured, plan.precision)
        return report_on(plan.name, "passed", reason, plan.path, measured, tolerance=allowed, precision=plan.precision)

    def _measure(self, plan: Candidate, findings: Findings, clock: Clock) -> tuple[Measured, str | None]:
        self._runtime.start_measuring(
            plan, self._output / plan.path, findings.signatures, findings.runs, clock.monotonic
        )
        try:
            measured: Measured = self._runtime.result(plan.runtime, LONGEST["verify"] / 4)
        except (DiedOrLate, RuntimeError) as error:
            return Measured(), f"running the converted model failed: {error}"
        return measured, measured.wrong


def keep_only(output: Path, reports: Sequence[PlanReport]) -> tuple[PlanReport, ...]:
    """Remove the files of plans that will never serve; the SavedModel stays, because it is the reference. What a plan
    showed stays in its report."""
    serving = [report for report in reports if report.status == "chosen" or report.name == FALLBACK]
    kept = {report.path for report in serving}
    for plan in (*FULL_PRECISION, *REDUCED_PRECISION):
        if plan.path not in kept:
            shutil.rmtree(output / plan.folder, ignore_errors=True)
    return tuple(report if report in serving else replace(report, path=None) for report in reports)


def tolerances(tolerance: Tolerance, signatures: Sequence[Signature]) -> dict[str, Shares]:
    """What was allowed, for those dtypes that the model gives."""
    given = {spec.dtype for signature in signatures for spec in signature.outputs}
    return {dtype: shares for dtype, shares in tolerance.shares.items() if dtype in given}


def _refusal(plan: Candidate, signatures: tuple[Signature, ...]) -> str | None:
    return openvino_refuses(signatures) if plan.runtime == "openvino" else None


def _praise(measured: Measured, precision: str | None) -> str:
    found, rows = measured.difference, measured.rows_checked
    words = f"matches TensorFlow on {rows} rows, off by at most {found.max_abs_error:.2g}"
    if precision is None:
        return words
    return (
        f"{precision}: close to TensorFlow on {rows} rows, off by at most {found.max_abs_error:.2g} "
        f"({found.max_rel_error:.2%} of the largest value), {found.argmax_flips} argmax flips"
    )
