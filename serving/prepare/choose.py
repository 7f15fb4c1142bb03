"""Chooses the plan that serves. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace

from contracts.package import PlanReport

# Plans that passed, by name. Between equally fast ones the earlier in the list stays.
FALLBACK = "tensorflow"


def choose(reports: Sequence[PlanReport]) -> tuple[str, tuple[PlanReport, ...]]:
    """The name of the fastest correct plan and all reports, the chosen one marked.

    Fastest means the lowest geometric mean of seconds per run over the batch sizes that every correct plan was timed
    at: a plan that is twice as fast with one row and half as fast with 64 gains nothing. Without timings the fallback
    serves. ValueError when no plan is correct.
    """
    correct = [report for report in reports if report.status == "passed"]
    if not correct:
        raise ValueError("no plan is correct")
    sizes = set.intersection(*(set(report.seconds_per_run) for report in correct))
    scores = {report.name: _geometric_mean([report.seconds_per_run[size] for size in sizes]) for report in correct}
    best = min(correct, key=lambda report: (scores[report.name], report.name != FALLBACK))
    others = [report for report in correct if report.name != best.name]
    reason = _why(best, others, scores)
    marked = tuple(
        replace(report, status="chosen", reason=f"{report.reason}; {reason}") if report.name == best.name else report
        for report in reports
    )
    return best.name, marked


def _geometric_mean(values: Sequence[float]) -> float:
    if not values:
        return math.inf
    return math.exp(math.fsum(math.log(max(value, 1e-9)) for value in values) / len(values))


def _why(best: PlanReport, others: Sequence[PlanReport], scores: dict[str, float]) -> str:
    if not others:
        return "chosen as the only correct plan"
    if math.isinf(scores[best.name]):
        return "chosen without timings"
    times = ", ".join(f"{scores[o.name] / scores[best.name]:.1f} times as fast as {o.name}" for o in others)
    return f"chosen as the fastest over all batch sizes: {times}"
