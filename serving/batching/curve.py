"""What runs cost: seconds by batch size, learned from every run. Judges nothing; policy.py does."""

from bisect import bisect_left
from collections.abc import Sequence

HANG_SECONDS = 30.0

_LEARN = 0.1  # share of a new measurement in the typical cost
_OUTLIER = 2.0  # a measurement counts as at most this many times what is typical: one hiccup is no news
_RISE = 1.01  # how fast the undisturbed cost follows slower runs: fivefold takes 160 of them in a row
_FORGET = 0.999  # how fast the slowest run is forgotten, per run: about a thousand runs of memory


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

    def undisturbed_per_row(self) -> float:
        """Time per row of the best batch size on a machine that does nothing else."""
        return min(seconds / bucket for bucket, seconds in self._undisturbed.items())

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
