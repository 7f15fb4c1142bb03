"""When a batch leaves, how big it is and what it will cost: pure judgement on learned costs.

The batcher tells how long each run took; everything here is arithmetic on that. There are no knobs: the thresholds
below are properties of the machine (what a thread hop costs), not of a workload.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

# Handing a run to the engine thread and back takes two wake-ups, 60-150 µs on the machines this was measured on, and
# releases the event loop meanwhile. Shorter runs are cheaper where they are.
THREAD_SECONDS = 300e-6
# A request that computes for less than this gains nothing from company: a future and a task switch cost as much.
SOLO_SECONDS = 60e-6
HANG_SECONDS = 30.0

_LEARN = 0.1  # share of a new measurement in the learned cost
_FORGET = 0.999  # how fast the slowest run is forgotten, per run: about a thousand runs of memory


class Route(Enum):
    """Where a request's run takes place."""

    SOLO = auto()  # at once, on the event loop, alone
    GATHER = auto()  # on the event loop, together with what else arrived in the same iteration
    THREAD = auto()  # in the engine thread, together with what arrived while it was busy


class CostCurve:
    """Seconds of one run by bucket, learned from runs. An unknown bucket costs what its nearest known neighbours
    suggest: never less than a smaller one, at most in proportion to its rows."""

    def __init__(self, buckets: Sequence[int]) -> None:
        self.buckets = tuple(buckets)
        self._seconds: dict[int, float] = {}
        self._slowest = 0.0
        self._spread()

    def learn(self, bucket: int, seconds: float) -> None:
        """Take in one measured run. On the hot path once a bucket is known."""
        self._slowest = max(seconds, self._slowest * _FORGET)
        if (known := self._seconds.get(bucket)) is None:
            self._seconds[bucket] = seconds
            self._spread()
        else:
            self._seconds[bucket] = self._estimates[bucket] = known + _LEARN * (seconds - known)

    def bucket(self, rows: int) -> int:
        """The smallest bucket that holds `rows`, or the biggest one."""
        return next((b for b in self.buckets if rows <= b), self.buckets[-1])

    def seconds(self, rows: int) -> float:
        """Expected time to compute `rows`, in several runs where one is not enough."""
        whole, rest = divmod(rows, self.buckets[-1])
        return whole * self._estimates[self.buckets[-1]] + (self._estimates[self.bucket(rest)] if rest else 0.0)

    def seconds_per_row(self) -> float:
        """Time per row at the best batch size there is: what a long queue drains at."""
        return min(seconds / bucket for bucket, seconds in self._estimates.items())

    def hang_after(self) -> float:
        """A run that takes longer than this is taken for dead: twice the slowest in memory, at least 30 s."""
        return max(2 * self._slowest, HANG_SECONDS)

    def _spread(self) -> None:
        self._estimates: dict[int, float] = {}
        for bucket in self.buckets:
            if (known := self._seconds.get(bucket)) is None:
                below = [b for b in self.buckets if b < bucket and b in self._seconds]
                above = [b for b in self.buckets if b > bucket and b in self._seconds]
                if below:
                    known = self._seconds[below[-1]] * bucket / below[-1]
                else:
                    known = self._seconds[above[0]] if above else 0.0
            self._estimates[bucket] = known


def route(curve: CostCurve, rows: int) -> Route:
    """Where a request of `rows` is computed when the engine is idle."""
    seconds = curve.seconds(rows)
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
