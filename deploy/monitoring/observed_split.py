"""How traffic was really divided between the two versions of a rollout, from what was counted of each. Pure."""

from collections import deque

from deploy.evidence.counted import Counted

WINDOW_SECONDS = 30.0  # long enough for a share of a few percent, short enough to follow a step


class ObservedSplit:
    """The latest counts of one rollout. `share` is the candidate's, 0 to 1; None when neither version finished a
    request lately."""

    def __init__(self) -> None:
        self.share: float | None = None
        self._seen: deque[tuple[float, int, int]] = deque()

    def saw(self, counted: Counted, at: float) -> None:
        """New counts, seen at `at` seconds."""
        self._seen.append((at, counted.errors.live.units, counted.errors.candidate.units))
        while self._seen[0][0] <= at - WINDOW_SECONDS:
            self._seen.popleft()
        live, candidate = (sum(seen[arm] for seen in self._seen) for arm in (1, 2))
        self.share = candidate / (live + candidate) if live + candidate else None
