"""Who may queue: pure judgement on what is expected, on how expectations turned out, and on whether the queue stands.

An answer that comes too late has cost as much as a good one. So a request is let in only when all that stands before it
and its own run end well within its time. What waits already is served oldest first: as nobody is let in who would
be late, turning the order round would only make those late who were promised an answer.
"""

from contracts.errors import Overloaded, TooLarge
from contracts.limits import Limits
from serving.batching.curve import CostCurve
from serving.batching.policy import HOP_SECONDS, batch_rows, lean_rows
from serving.batching.queue import Queue

_PLANNED = 0.9  # of a caller's time; the rest is for the way there and back
_PLANNED_STANDING = 0.5  # of it while the queue stands: a longer queue answers nobody more, and everybody later
_TARGET = 0.005  # seconds; who waits no longer has met no queue to speak of
_INTERVAL = 0.1  # seconds that a queue may last without being called standing: a burst
_CALM = 0.25  # seconds without a refusal until a queue that was too long for somebody is forgotten

_GRACE = 0.005  # seconds beyond what was expected that are no news: task switches, a collection of garbage
_WORSE, _BETTER = 0.3, 0.1  # share of the news in the experience, per run
_WORST = 4.0  # times as long as the costs say; beyond it, nothing would be let in that could prove otherwise


def finish_seconds(curve: CostCurve, rows: int, lines: int = 1) -> float:
    """Engine time until `rows` are computed that wait in so many lines, the way into the thread and back included."""
    run = batch_rows(curve, rows)
    whole, rest = divmod(rows, run)
    total = whole * (curve.seconds(run) + HOP_SECONDS) + (curve.seconds(rest) + HOP_SECONDS if rest else 0.0)
    return max(total, lines * (curve.seconds(1) + HOP_SECONDS))


def rest_seconds(cost: float, running_for: float) -> float:
    """What is left of a run that was expected to cost so much; one that is overdue lasts as long again as it is."""
    return abs(cost - running_for)


class Experience:
    """How many times as long as expected answers take: what costs do not know, from the work around a run to
    neighbours on the same cores. Bad news count more than good ones, and all are forgotten in some dozens of runs."""

    def __init__(self) -> None:
        self.factor = 1.0

    def learn(self, expected: float, took: float) -> None:
        """One run's callers were answered, or it would have been too late: the slowest after `took` seconds."""
        news = min(max(1.0, (took - _GRACE) / expected), _WORST) if expected > 0 else 1.0
        self.factor += (_WORSE if news > self.factor else _BETTER) * (news - self.factor)


class Standing:
    """Whether the queue stands: for an interval, even the last to join a run has waited. A burst passes, and deserves
    the whole queue; a standing queue is pure delay. The idea is that of controlled delay, RFC 8289. But a run may take
    the whole queue, and then the last has not waited: so it stands, too, while people are refused for its length."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._calm_at = float("-inf")

    def began(self, now: float, shortest_wait: float) -> None:
        """A run begins at `now`, and who joined it last has waited so many seconds."""
        if shortest_wait <= _TARGET:
            self._since = None
        elif self._since is None:
            self._since = now

    def refused(self, now: float, wait: float) -> None:
        """Somebody was not let in who would have waited so many seconds. One in too great a hurry proves nothing."""
        if wait >= _INTERVAL:
            self._calm_at = now + _CALM

    def lasts(self, now: float) -> bool:
        return now < self._calm_at or (self._since is not None and now - self._since >= _INTERVAL)


def longest_finish(curve: CostCurve, factor: float, patience: float, *, standing: bool) -> float:
    """Seconds within which a request of `patience` seconds has to be expected to be answered, to be let in. Runs take
    `factor` times what they are said to cost.

    However the queue stands, the engine is to find its next run when this one ends: two efficient ones fit in."""
    planned = _PLANNED * patience
    if not standing:
        return planned
    run = factor * (curve.seconds(lean_rows(curve)) + HOP_SECONDS)
    return min(planned, max(_PLANNED_STANDING * patience, 2 * run))


class Gate:
    """Refuses who would wait in vain. Told of every run, in the order of things: `empty` or not, `began`, `ended`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._experience = Experience()
        self._standing = Standing()

    def check_size(self, queue: Queue, rows: int, size: int, expected: float) -> None:
        """Raise TooLarge for what could never queue, and Overloaded for what finds no place, for `expected` seconds."""
        limits = self._limits
        if rows > limits.queue_rows or size > limits.queue_bytes:
            raise TooLarge(
                f"the request has {rows} rows in {size} bytes; at most {limits.queue_rows} rows in "
                f"{limits.queue_bytes} bytes can wait: send several smaller ones"
            )
        if queue.rows + rows > limits.queue_rows or queue.size + size > limits.queue_bytes:
            raise Overloaded(f"the queue is full: {queue.rows} rows are waiting", retry_after=max(expected, 1.0))

    def empty(self, now: float) -> None:
        """A request finds nobody before it: how long others have waited is past."""
        self._standing.began(now, 0.0)

    def began(self, now: float, last_arrived: float) -> None:
        self._standing.began(now, now - last_arrived)

    def ended(self, expected: float, took: float) -> None:
        """Who had waited longest for a run got an answer, or would have."""
        self._experience.learn(expected, took)

    def refusal(self, curve: CostCurve, rows: int, expected: float, patience: float, now: float) -> Overloaded | None:
        """Why a request must not queue that can wait for `patience` seconds and would be answered in `expected` by
        costs alone; None when it may."""
        factor = self._experience.factor
        likely = factor * expected
        wait = likely - curve.seconds(rows)
        longest = longest_finish(curve, factor, patience, standing=self._standing.lasts(now))
        if likely <= longest and wait <= self._limits.queue_seconds:
            return None
        self._standing.refused(now, wait)
        return Overloaded(
            f"the queue is {wait:.2f} s long, more than this request can wait", retry_after=max(wait, 1.0)
        )
