"""From raw counters of one version to what happened between two looks at them. Pure; who looks is elsewhere.

Differences are made series by series, because a sum over series hides that one of them began anew. What cannot be
known is a Gap with its reason and never a zero.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from deploy.evidence.blocks import Arm, Block
from deploy.evidence.counted import Counted

SLACK = 8  # requests that end between the reading of one counter and of the next


class Fact(StrEnum):
    """What is counted of one version. All of them only grow while the process that counts them lives."""

    ANSWERED = "answered"  # requests that got a final answer, whatever it was
    REFUSED = "refused"  # of those, the caller's fault
    FAILED = "failed"  # of those, the version's fault: it erred, was too slow, too full, or died
    SAVED = "saved"  # requests whose first attempt failed and whose second did not: a failure that nobody saw
    BATCHES = "batches"
    BATCHES_FAILED = "batches_failed"
    TIMED = "timed"  # requests in the histogram of durations
    WITHIN = "within"  # of those, no slower than a bound; one series per bound
    PREDICTED = "predicted"  # predictions that fell into a bin; one series per bin


@dataclass(frozen=True)
class Series:
    """One raw counter: what it counts, in which process, and up to which bound of durations or in which bin of
    predictions (index)."""

    fact: Fact
    source: str
    bound: int = -1


Sample = Mapping[Series, float]
"""All series of one version at one moment."""


class GapKind(StrEnum):
    """Why there is no block, as a word that can be counted."""

    FIRST_LOOK = "first_look"  # nothing to make a difference with
    UNAVAILABLE = "unavailable"  # the source cannot be asked
    STALE = "stale"  # it answers with what it said before
    MISSING = "missing"  # it says nothing of one of the versions
    NO_COUNT = "no_count"  # what it says is not a count: not a number, infinite, negative
    CONTRADICTION = "contradiction"  # its counters contradict each other
    MISMATCH = "mismatch"  # two sources contradict each other


@dataclass(frozen=True)
class Gap:
    """There is no block, and why: a sentence for people, and what kind of reason that is."""

    reason: str
    kind: GapKind


def grown(before: Sample, after: Sample) -> Mapping[Series, int] | Gap:
    """How much each series grew. A counter that fell was reset, and what it shows now has all been counted since; a
    series of a new process began at zero, and one of a process that is gone grows no more.

    A Gap when a value is not a count."""
    result: dict[Series, int] = {}
    for series, value in after.items():
        past = before.get(series, 0.0)
        if not math.isfinite(value) or value < 0 or not math.isfinite(past):
            return Gap(f"{series.source} says {value:g} for {series.fact}, which is no count", GapKind.NO_COUNT)
        result[series] = round(value - past if value >= past else value)
    return result


def counted(live: Mapping[Series, int], candidate: Mapping[Series, int], bounds: int) -> Counted | Gap:
    """Both versions over the same stretch, with durations compared at `bounds` bounds. A Gap when counters contradict
    each other by more than the moment between reading one and the next explains."""
    here, there = _arms(live, bounds), _arms(candidate, bounds)
    if isinstance(here, Gap):
        return here
    if isinstance(there, Gap):
        return there
    errors, batches, *slower = (Block(a, b) for a, b in zip(here, there, strict=True))
    return Counted(errors, batches, tuple(slower))


def _arms(grown_by: Mapping[Series, int], bounds: int) -> tuple[Arm, ...] | Gap:
    """Errors, batches, and one arm per bound: requests slower than it."""
    total: Counter[Fact] = Counter()
    within = [0] * bounds
    for series, by in grown_by.items():
        if series.fact is Fact.WITHIN:
            within[series.bound] += by
        else:
            total[series.fact] += by
    errors = total[Fact.ANSWERED] - total[Fact.REFUSED], total[Fact.FAILED] + total[Fact.SAVED]
    pairs = [errors, (total[Fact.BATCHES], total[Fact.BATCHES_FAILED])]
    pairs += [(total[Fact.TIMED], total[Fact.TIMED] - fast) for fast in within]
    for units, bad in pairs:
        if bad < -SLACK or bad > units + SLACK:
            return Gap(f"counters contradict each other: {bad} bad of {units}", GapKind.CONTRADICTION)
    return tuple(Arm(max(0, units), min(max(0, bad), max(0, units))) for units, bad in pairs)
