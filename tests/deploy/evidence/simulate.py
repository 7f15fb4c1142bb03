"""Traffic of two versions as it would be counted, for tests of evidence: Poisson arrivals, thinned by weight.

Seeds are fixed, so a run that passes always passes. Blocks are five seconds long.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deploy.evidence.blocks import Arm, Block

SECONDS = 5.0


@dataclass(frozen=True)
class Traffic:
    """`rps` requests a second, a share `weight` of them to the candidate; failure rates of both, and how far the rate
    both share swings (0.9: between a tenth and nearly twice of it). `clump`: requests that fail together."""

    rps: float
    weight: float
    live: float
    candidate: float
    swing: float = 0.0
    clump: int = 1

    def blocks(self, rng: np.random.Generator, count: int) -> Iterator[Block]:
        """`count` blocks of requests."""
        for live, candidate in self._arms(rng, count):
            yield Block(Arm(*(x * self.clump for x in live)), Arm(*(x * self.clump for x in candidate)))

    def batches(self, rng: np.random.Generator, count: int) -> Iterator[Block]:
        """`count` blocks of batches: what really fails together is one unit."""
        for live, candidate in self._arms(rng, count):
            yield Block(Arm(*live), Arm(*candidate))

    def _arms(self, rng: np.random.Generator, count: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        units = self.rps / self.clump * SECONDS
        factor = 1 + self.swing * np.sin(np.arange(count) / 7.0 + rng.uniform(0, 6.28))
        n_live, n_candidate = (rng.poisson(units * share, count) for share in (1 - self.weight, self.weight))
        x_live = rng.binomial(n_live, np.minimum(1.0, self.live * factor))
        x_candidate = rng.binomial(n_candidate, np.minimum(1.0, self.candidate * factor))
        for a, b, c, d in zip(n_live, x_live, n_candidate, x_candidate, strict=True):
            yield (int(a), int(b)), (int(c), int(d))
