"""Chooses the plan that serves. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from contracts.package import PlanReport

# Plans that passed, by name. Between equally fast ones the earlier in the list stays.
FALLBACK = "tensorflow"
_WORTH_PRECISION = 1.05  # times as fast as every plan in full precision, or nothing is given up
_WORTH_THREADS = 1.1  # times as fast as fewer threads: each one taken is not there for another worker


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
    best = _best(correct, scores)
    others = [report for report in correct if report.name != best.name]
    reason = _why(best, others, scores)
    marked = tuple(
        replace(report, status="chosen", reason=f"{report.reason}; {reason}") if report.name == best.name else report
        for report in reports
    )
    return best.name, marked


def fewest_threads(seconds: Mapping[int, Mapping[int, float]]) -> int:
    """From the seconds per run by number of threads and batch size: the fewest threads such that no greater number is
    clearly faster over the sizes that all were timed at."""
    sizes = set.intersection(*(set(timed) for timed in seconds.values()))
    scores = {threads: _geometric_mean([timed[size] for size in sizes]) for threads, timed in seconds.items()}
    fastest = min(scores.values())
    return min(threads for threads, score in scores.items() if score <= fastest * _WORTH_THREADS)


def _best(correct: Sequence[PlanReport], scores: Mapping[str, float]) -> PlanReport:
    full = [report for report in correct if report.precision is None]
    best = min(correct, key=lambda report: (scores[report.name], report.precision or "", report.name != FALLBACK))
    if best.precision is None or not full:
        return best
    rival = min(full, key=lambda report: (scores[report.name], report.name != FALLBACK))
    return best if scores[best.name] * _WORTH_PRECISION < scores[rival.name] else rival


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
    reduced = f" with reduced precision ({best.precision})" if best.precision is not None else ""
    return f"chosen{reduced} as the fastest over all batch sizes: {times}"
