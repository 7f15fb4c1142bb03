"""When a batch leaves, how big it is and what it will cost: pure judgement on learned costs.

The batcher tells how long each run took; everything here is arithmetic on that. There are no knobs: the thresholds
below are properties of the machine (what a thread hop costs), not of a workload.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

# Handing a run to the engine thread and back takes two wake-ups, 60-150 µs on the machines this was measured on, and
# releases the event loop meanwhile. Shorter runs are cheaper where they are.
THREAD_SECONDS = 300e-6
# A request that computes for less than this gains nothing from company: a future and a task switch cost as much.
SOLO_SECONDS = 60e-6
HANG_SECONDS = 30.0

_LEARN = 0.1  # share of a new measurement in the typical cost
_OUTLIER = 2.0  # a measurement counts as at most this many times what is typical: one hiccup is no news
_RISE = 1.01  # how fast the undisturbed cost follows slower runs: fivefold takes 160 of them in a row
_FORGET = 0.999  # how fast the slowest run is forgotten, per run: about a thousand runs of memory


class Route(Enum):
    """Where a request's run takes place."""

    SOLO = auto()  # at once, on the event loop, alone
    GATHER = auto()  # on the event loop, together with what else arrived in the same iteration
    THREAD = auto()  # in the engine thread, together with what arrived while it was busy


class CostCurve:
    """Seconds of one run by bucket, learned from runs: what is typical, and what a run takes when nothing disturbs it.

    Plans and waits are made from the typical cost. Where a run takes place follows from the undisturbed one, because a
    run in a thread also measures the wait for Python's lock, and would look expensive for ever.
    An unknown bucket costs what its nearest known neighbour suggests: in proportion to a smaller one, as a bigger one.
    """

    def __init__(self, buckets: Sequence[int]) -> None:
        self.buckets = tuple(buckets)
        self._bucket_of = tuple(self.buckets[bisect_left(self.buckets, n)] for n in range(self.buckets[-1] + 1))
        self._known: set[int] = set()
        self._typical = dict.fromkeys(self.buckets, 0.0)
        self._undisturbed = dict.fromkeys(self.buckets, 0.0)
        self._slowest = 0.0

    def learn(self, bucket: int, seconds: float) -> None:
        """Take in one measured run. On the hot path once a bucket is known."""
        self._slowest = max(seconds, self._slowest * _FORGET)
        if bucket in self._known:
            typical = self._typical[bucket]
            self._typical[bucket] = typical + _LEARN * (min(seconds, _OUTLIER * typical) - typical)
            self._undisturbed[bucket] = min(seconds, self._undisturbed[bucket] * _RISE)
        else:
            self._known.add(bucket)
            self._typical[bucket] = self._undisturbed[bucket] = seconds
            self._guess_unknown(self._typical)
            self._guess_unknown(self._undisturbed)

    def bucket(self, rows: int) -> int:
        """The smallest bucket that holds `rows`, or the biggest one."""
        return self._bucket_of[rows] if rows <= self.buckets[-1] else self.buckets[-1]

    def seconds(self, rows: int) -> float:
        """Expected time to compute `rows`, in several runs where one is not enough."""
        whole, rest = divmod(rows, self.buckets[-1])
        return whole * self._typical[self.buckets[-1]] + (self._typical[self.bucket(rest)] if rest else 0.0)

    def undisturbed(self, rows: int) -> float:
        """Time of one run of `rows`, at most the biggest bucket, on a machine that does nothing else."""
        return self._undisturbed[self.bucket(rows)]

    def seconds_per_row(self) -> float:
        """Time per row at the best batch size there is: what a long queue drains at."""
        return min(seconds / bucket for bucket, seconds in self._typical.items())

    def hang_after(self) -> float:
        """A run that takes longer than this is taken for dead: twice the slowest in memory, at least 30 s."""
        return max(2 * self._slowest, HANG_SECONDS)

    def _guess_unknown(self, seconds: dict[int, float]) -> None:
        for bucket in self.buckets:
            if bucket not in self._known:
                below = [b for b in self._known if b < bucket]
                nearest = max(below) if below else min(self._known)
                seconds[bucket] = seconds[nearest] * max(1.0, bucket / nearest)


def route(curve: CostCurve, rows: int) -> Route:
    """Where a run of `rows`, at most the biggest bucket, takes place."""
    seconds = curve.undisturbed(rows)
    if seconds < SOLO_SECONDS:
        return Route.SOLO
    return Route.GATHER if seconds < THREAD_SECONDS else Route.THREAD


def batch_rows(curve: CostCurve, waiting: int) -> int:
    """How many of the waiting rows the next run takes.

    All of them, unless they would fill so little of the next bucket that a full smaller one computes more rows per
    second: then that one, and the rest goes next."""
    biggest = curve.buckets[-1]
    if waiting >= biggest:
        return biggest
    upper = curve.bucket(waiting)
    lower = max((b for b in curve.buckets if b <= waiting), default=upper)
    if lower in (waiting, upper):
        return waiting
    up, down = curve.seconds(upper), curve.seconds(lower)
    return lower if up > 0 and down > 0 and lower / down > waiting / up else waiting


@dataclass(frozen=True)
class Load:
    """What stands before a request that arrives now. `running_for` is the age of the run in progress, `running_cost`
    its expected length; both 0 when the engine is idle."""

    queued_rows: int
    running_for: float = 0.0
    running_cost: float = 0.0


def expected_wait(curve: CostCurve, load: Load) -> float:
    """Seconds until a request that arrives now gets its turn."""
    return load.queued_rows * curve.seconds_per_row() + max(0.0, load.running_cost - load.running_for)


class BisectBudget:
    """How many rows may be computed a second time to find the row that broke a batch.

    A token bucket in rows: every run puts in a tenth of its rows, and it holds enough to search one batch of the
    biggest bucket. When all batches fail, the search adds a tenth to the work and no more."""

    SHARE = 0.1

    def __init__(self, biggest_bucket: int) -> None:
        # Halving n rows costs at most n on each of log2(n) levels when several rows are bad, 2n for a single one.
        self._full = 4.0 * biggest_bucket
        self._rows = self._full

    def earn(self, rows: int) -> None:
        self._rows = min(self._full, self._rows + self.SHARE * rows)

    def spend(self, rows: int) -> bool:
        """Take `rows` if they are there."""
        if self._rows < rows:
            return False
        self._rows -= rows
        return True
