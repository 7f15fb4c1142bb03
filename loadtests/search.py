"""Which knobs are best, and how much traffic a batcher takes at a given latency. Pure; measuring is handed in."""

import math
from collections.abc import Callable, Mapping, Sequence

from loadtests.static_batcher import Knobs

SIZES = (4, 16, 64)
WAITS = (0.0, 0.002)
NO_BATCHING = Knobs(1, 0.0)
GRID = (NO_BATCHING, *(Knobs(size, wait) for size in SIZES for wait in WAITS))

SAME = 1.1  # two p99 within 10 % are the same: as much as the goal for low load allows
LADDER = (1.05, 1.0, 0.95, 0.9, 0.8, 0.6)


def best(p99: Mapping[Knobs, float]) -> Knobs:
    """The knobs with the lowest p99 at a given rate; those that do not keep up with it have a high one by themselves.
    Between equals the smaller batch and the shorter wait."""
    return min(p99, key=lambda knobs: (p99[knobs], knobs))


def throughput_at(p99_at: Callable[[float], float], bound: float, ladder: Sequence[float] = LADDER) -> float:
    """The largest share in `ladder` (descending) of a rate at which `p99_at(share)` is the same as `bound` or better;
    0 when none is. Begins at the whole rate and goes from there: down while it is too much, else one step up."""
    start = ladder.index(1.0)
    if p99_at(1.0) <= bound * SAME:
        above = ladder[start - 1] if start else math.nan
        return above if start and p99_at(above) <= bound * SAME else 1.0
    return next((share for share in ladder[start + 1 :] if p99_at(share) <= bound * SAME), 0.0)
