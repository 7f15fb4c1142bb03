"""Do both versions answer alike? Evidence about counts in bins, such as predicted classes or ranges of a score.

Per block an e-variable for "both versions share one distribution here", whatever it is and however it drifts from
block to block. Source: Turner, Ly and Grünwald, Generic E-variables for exact sequential k-sample tests, JSPI 2024,
arXiv 2106.02693.

Rows of one caller resemble each other, so the evidence is tempered by how much the live version's answers clump.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import Internal
from deploy.evidence.dispersion import UNKNOWN, Clumping
from deploy.evidence.logs import NONE


@dataclass(frozen=True)
class Categories:
    """Evidence so far and the counts it was learned from. The tuples have one entry per bin."""

    live: tuple[int, ...]
    candidate: tuple[int, ...]
    log_differ: float = NONE
    clumping: Clumping = UNKNOWN

    @classmethod
    def of(cls, bins: int) -> "Categories":
        return cls((0,) * bins, (0,) * bins)

    @property
    def divergence(self) -> float:
        """Jensen-Shannon divergence of what was counted so far, in bits: 0 for equal shares, 1 for disjoint bins. With
        enough traffic any difference becomes evident; this says whether it is worth anybody's attention. What chance
        alone makes of equal shares is taken off."""
        n_live, n_candidate = sum(self.live), sum(self.candidate)
        if not n_live or not n_candidate:
            return 0.0
        p, q = [x / n_live for x in self.live], [x / n_candidate for x in self.candidate]
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        found = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
        used = sum(m > 0 for m in middle)
        chance = self.clumping.factor * (used - 1) * (1 / n_live + 1 / n_candidate) / (8 * math.log(2))
        return max(0.0, found - chance)


def update(so_far: Categories, live: Sequence[int], candidate: Sequence[int]) -> Categories:
    """Take in one block of counts per bin. What is expected of it was learned from the blocks before, so the first
    two only teach. Raises Internal for another number of bins."""
    bins = len(so_far.live)
    if len(live) != bins or len(candidate) != bins:
        raise Internal(f"evidence: {bins} bins before, {len(live)} and {len(candidate)} now")
    n_live, n_candidate = sum(live), sum(candidate)
    log_differ = so_far.log_differ
    if n_live and n_candidate and so_far.clumping.blocks > 1:
        log_differ += _log_ratio(so_far, live, candidate) / so_far.clumping.factor
    return Categories(
        tuple(a + b for a, b in zip(so_far.live, live, strict=True)),
        tuple(a + b for a, b in zip(so_far.candidate, candidate, strict=True)),
        log_differ,
        so_far.clumping.update(live),
    )


def _log_ratio(so_far: Categories, live: Sequence[int], candidate: Sequence[int]) -> float:
    """log of how much better two distributions, as learned so far, explain a block than one that both share."""
    share = sum(live) / (sum(live) + sum(candidate))
    used = [a + b > 0 for a, b in zip(so_far.live, so_far.candidate, strict=True)]
    expect_live, expect_candidate = _expected(so_far.live, used), _expected(so_far.candidate, used)
    result = 0.0
    for b, c, p, q in zip(live, candidate, expect_live, expect_candidate, strict=True):
        if b or c:
            shared = share * p + (1 - share) * q
            result += b * math.log(p / shared) + c * math.log(q / shared)
    return result


def _expected(counts: Sequence[int], used: Sequence[bool]) -> list[float]:
    """Share of each bin as learned so far. One is added to each bin that either version ever used, and one to all the
    others together, so that nothing is impossible and a model of two classes is not thought to have fifty."""
    ever = sum(used)
    others = len(counts) - ever
    total = sum(counts) + ever + (others > 0)
    return [(count + 1) / total if seen else 1 / (total * others) for count, seen in zip(counts, used, strict=True)]


def _relative_entropy(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 0)
