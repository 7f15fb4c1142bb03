"""Where a run takes place, how big a batch is, and how much searching for a bad row may cost: pure judgement on learned
costs. Whether to wait for company is waiting.py, who may queue admission.py.

There are no knobs: the thresholds below are properties of the machine (what a thread hop costs), not of a workload.
"""

import math
from enum import Enum, auto

from serving.batching.curve import CostCurve

# Handing a run to the engine thread and back takes two wake-ups, 60-150 µs on the machines this was measured on, and
# releases the event loop meanwhile. Shorter runs are cheaper where they are.
THREAD_SECONDS = 300e-6
# What a request pays for company: a ticket, a future and a task switch, and over HTTP the longer way to them. One that
# would save less engine time by sharing a run than this is computed alone.
COMPANY_SECONDS = 40e-6

HOP_SECONDS = 100e-6  # of a run, beside what is measured: the way into the thread and back
_FULL_LOAD = 0.8  # beyond it, nobody knows how long a queue lasts; a longer one asks for bigger batches by itself
_NEARLY = 1.1  # times the time per row: what an answer in time may cost the others


class Route(Enum):
    """Where a request's run takes place."""

    SOLO = auto()  # at once, on the event loop, alone
    GATHER = auto()  # on the event loop, together with what else arrived in the same iteration
    THREAD = auto()  # in the engine thread, together with what arrived while it was busy


def route(curve: CostCurve, rows: int) -> Route:
    """Where a run of `rows`, at most the biggest bucket, takes place."""
    alone = curve.undisturbed(rows)
    if alone >= THREAD_SECONDS:
        return Route.THREAD
    if alone < COMPANY_SECONDS:  # company cannot save more than all of it; on the hot path of small models
        return Route.SOLO
    saved = alone - rows * curve.undisturbed_per_row()
    return Route.SOLO if saved < COMPANY_SECONDS else Route.GATHER


def batch_rows(curve: CostCurve, waiting: int, load: float = _FULL_LOAD) -> int:
    """How many of the waiting rows the next run takes. `load` is the share of what the engine could compute at its best
    that arrives, 0 to 1.

    Everybody in a run waits for all of it, so where a big batch saves nothing, small ones answer sooner. Where it does
    save, the saving is for all who arrive until the queue is empty, and the more of them there are, the more it counts:
    what is minimized is the mean time to an answer of those who wait and those who come."""
    biggest = curve.buckets[-1]
    best = min(waiting, biggest)
    later = min(load, _FULL_LOAD) / (1 - min(load, _FULL_LOAD))  # rows that come until all is done, for each that waits
    lowest = _mean_delay(curve, waiting, best, later)
    for bucket in reversed(curve.buckets):
        if bucket < best:
            delay = _mean_delay(curve, waiting, bucket, later)
            if delay < lowest:
                best, lowest = bucket, delay
    return best


def _mean_delay(curve: CostCurve, waiting: int, rows: int, later: float) -> float:
    """When all are computed in runs of `rows`. Of those who wait, half of the time on average; of those who come later,
    all of it."""
    runs, rest = divmod(waiting, rows)
    one = curve.seconds(rows) + HOP_SECONDS
    total = runs * one + (curve.seconds(rest) + HOP_SECONDS if rest else 0.0)
    return (one + total) / 2 + total * later


def timely_rows(curve: CostCurve, rows: int, patience: float) -> int:
    """How many of `rows` run now when the most hurried of them has `patience` seconds left: fewer, where that is in
    time and hardly less efficient, otherwise all."""
    if curve.seconds(rows) <= patience:
        return rows
    pace = curve.seconds(rows) / rows
    for bucket in reversed(curve.buckets):
        if bucket < rows and curve.seconds(bucket) <= patience:
            return bucket if curve.seconds(bucket) / bucket <= _NEARLY * pace else rows
    return rows


def lean_rows(curve: CostCurve) -> int:
    """The smallest run that computes hardly fewer rows per second than the best."""
    return next(b for b in curve.buckets if curve.seconds(b) / b <= _NEARLY * curve.seconds_per_row())


def drain_seconds(curve: CostCurve, rows: int) -> float:
    """Engine time for all of `rows`, in the runs that `batch_rows` would make of them under full load."""
    total = 0.0
    while rows:
        run = batch_rows(curve, rows)
        total, rows = total + curve.seconds(run), rows - run
    return total


def search_seconds(curve: CostCurve, rows: int) -> float:
    """Engine time that halving a failed batch of `rows` costs at the worst, when every row is bad."""
    total, runs, size = 0.0, 1, rows
    while size > 1:
        runs, size = 2 * runs, math.ceil(size / 2)
        total += runs * curve.seconds(size)
    return total


class SearchBudget:
    """How much engine time may go into finding the rows that break batches: a tenth of what ordinary runs take.

    It is enforced before the damage: no batch is bigger than what could be searched to the end with what is left, down
    to requests that run alone. So the search never stops half way, a bad row never fails its neighbours, and whoever
    sends nothing but bad rows costs one run each.
    """

    SHARE = 0.1
    _SEARCHES = 2  # of the biggest batch in a row, before batches have to shrink

    def __init__(self, curve: CostCurve) -> None:
        self._curve = curve
        self._debt = 0.0  # seconds of searching that were not earned back yet

    def earn(self, seconds: float) -> None:
        """An ordinary run took so long."""
        if self._debt:
            self._debt = max(0.0, self._debt - self.SHARE * seconds)

    def spend(self, seconds: float) -> None:
        """A run of a search took so long."""
        self._debt += seconds

    def company(self) -> int:
        """How many rows may share the next run; 1 means that everybody runs alone."""
        biggest = self._curve.buckets[-1]
        if not self._debt:
            return biggest
        left = self._SEARCHES * search_seconds(self._curve, biggest) - self._debt
        fitting = [bucket for bucket in self._curve.buckets if search_seconds(self._curve, bucket) <= left]
        return max(fitting, default=1)
