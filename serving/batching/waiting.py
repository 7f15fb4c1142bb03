"""Whether a batch that could leave should wait for company: pure judgement on costs and on when callers come back.

Arrivals that come anyway are no reason to wait: they gather while the engine is busy. But callers who were answered a
moment ago often come back at once, and a batch that leaves without them makes two runs, for ever, where one would do.
How many come back how soon is learned from every run, without trying anything out on anybody.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from serving.batching.curve import CostCurve
from serving.batching.policy import drain_seconds

_EDGES = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)  # seconds after an answer
_LEARN = 0.05  # of a single run's arrivals, which vary a lot
_REMEMBER = 0.98  # of the arrival rate, at each run
_WORTH = 0.05  # of the run that would leave now; a smaller saving is within the error of all that was estimated


@dataclass(frozen=True)
class Expectation:
    """`rows` more are expected within `seconds` from now because they were answered just now."""

    seconds: float
    rows: float


@dataclass(frozen=True)
class Wait:
    """Wait until `rows` are there, and no longer than `seconds`."""

    seconds: float
    rows: int


class Returns:
    """How many rows arrive, and how many of those that were answered come back how soon."""

    def __init__(self) -> None:
        self._since = 0.0  # when the last answers were given
        self._answered = 0
        self._counts = [0] * (len(_EDGES) + 1)  # rows that arrived since, by the first edge after their arrival
        self._rows, self._seconds = 0.0, 0.0  # that arrived and that passed, older ones counting less and less
        self._usually_answered = 1.0  # rows per run, learned, as the next
        self._usually_came = [0.0] * len(_EDGES)  # rows by each edge, beyond what arrives anyway

    def arrived(self, now: float, rows: int) -> None:
        self._counts[bisect_left(_EDGES, now - self._since)] += rows

    def answered(self, now: float, rows: int) -> None:
        """A run ended and its callers are answered: learn from what came since the last one, and begin anew."""
        elapsed, total = now - self._since, sum(self._counts)
        self._rows, self._seconds = _REMEMBER * self._rows + total, _REMEMBER * self._seconds + elapsed
        came = 0
        self._usually_answered += _LEARN * (self._answered - self._usually_answered)
        for i, edge in enumerate(_EDGES):
            if edge >= elapsed or not self._answered:
                break
            came += self._counts[i]
            # The steady stream is taken off: independent arrivals have no share that comes back, whatever their rate.
            # Not cut off at zero, or their chance clusters would add up to one.
            self._usually_came[i] += _LEARN * (came - total * edge / elapsed - self._usually_came[i])
        self._since, self._answered = now, rows
        self._counts = [0] * (len(_EDGES) + 1)

    @property
    def rate(self) -> float:
        """Rows that arrive per second, as of late."""
        return self._rows / self._seconds if self._seconds > 0 else 0.0

    def expected(self, now: float) -> list[Expectation]:
        """Who is still expected back, nearest first."""
        age, came = now - self._since, sum(self._counts)
        scale = self._answered / self._usually_answered
        return [
            Expectation(edge - age, scale * usual - came)
            for edge, usual in zip(_EDGES, self._usually_came, strict=True)
            if edge > age and scale * usual > came
        ]


def worth_waiting(curve: CostCurve, rows: int, expected: Sequence[Expectation], patience: float) -> Wait | None:
    """The wait that saves most engine time when `rows` could leave now, or None when none does.

    Sharing a run saves what the late ones' own run would cost; waiting costs the engine's idle time. `patience` is
    the time in seconds that the most hurried of the waiting rows has left."""
    biggest = curve.buckets[-1]
    alone = drain_seconds(curve, rows)
    best, found = _WORTH * alone, None
    for expectation in expected:
        more = min(round(expectation.rows), biggest - rows)
        if more < 1:
            continue
        together = drain_seconds(curve, rows + more)
        saved = alone + drain_seconds(curve, more) - together - expectation.seconds
        if saved > best and expectation.seconds + 2 * together < patience:
            best, found = saved, Wait(expectation.seconds, rows + more)
    return found
