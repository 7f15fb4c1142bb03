"""Do both versions answer alike? Evidence about counts in bins, such as predicted classes or ranges of a score.

Per block an e-variable for "both versions share one distribution here", whatever it is and however it drifts from
block to block. Source: Turner, Ly and Grünwald, Generic E-variables for exact sequential k-sample tests, JSPI 2024,
arXiv 2106.02693.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import Internal
from deploy.evidence.logs import NONE


@dataclass(frozen=True)
class Categories:
    """Evidence so far and the counts it was learned from. Both tuples have one entry per bin."""

    live: tuple[int, ...]
    candidate: tuple[int, ...]
    log_differ: float = NONE

    @classmethod
    def of(cls, bins: int) -> "Categories":
        return cls((0,) * bins, (0,) * bins)

    @property
    def divergence(self) -> float:
        """Jensen-Shannon divergence of what was counted so far, in bits: 0 for equal shares, 1 for disjoint bins. With
        enough traffic any difference becomes evident; this says whether it is worth anybody's attention."""
        n_live, n_candidate = sum(self.live), sum(self.candidate)
        if not n_live or not n_candidate:
            return 0.0
        p, q = [x / n_live for x in self.live], [x / n_candidate for x in self.candidate]
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def update(so_far: Categories, live: Sequence[int], candidate: Sequence[int]) -> Categories:
    """Take in one block of counts per bin. What is expected of it was learned from the blocks before, so the first
    one only teaches. Raises Internal for another number of bins."""
    bins = len(so_far.live)
    if len(live) != bins or len(candidate) != bins:
        raise Internal(f"evidence: {bins} bins before, {len(live)} and {len(candidate)} now")
    n_live, n_candidate = sum(live), sum(candidate)
    log_differ = so_far.log_differ
    if n_live and n_candidate:
        expect_live, expect_candidate = _expected(so_far.live), _expected(so_far.candidate)
        total = n_live + n_candidate
        for b, c, p, q in zip(live, candidate, expect_live, expect_candidate, strict=True):
            shared = (n_live * p + n_candidate * q) / total
            log_differ += b * math.log(p / shared) + c * math.log(q / shared)
    return Categories(
        tuple(a + b for a, b in zip(so_far.live, live, strict=True)),
        tuple(a + b for a, b in zip(so_far.candidate, candidate, strict=True)),
        log_differ,
    )


def _expected(counts: Sequence[int]) -> list[float]:
    """Share of each bin as learned so far; one of each is added, so that nothing is impossible."""
    total = sum(counts) + len(counts)
    return [(count + 1) / total for count in counts]


def _relative_entropy(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 0)
