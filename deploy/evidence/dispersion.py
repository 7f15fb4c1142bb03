"""How many units share one fate, learned from how much one version varies from block to block.

Rows of one caller, a pause of a process, a burst: what is bad then comes in clumps, and evidence that takes clumped
units for independent ones grows too fast. Raised to the power of 1/factor it keeps its bound, as long as the factor was
known before the block: a power of an e-variable is one, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_DOUBT = 1.64  # standard errors that are taken off: what may be chance is no clumping
_BELIEVED, _BELIEF = 3.0, 4.0  # before anything is known, units come in threes; forgotten after a few blocks


@dataclass(frozen=True)
class Clumping:
    """Chi-squared between consecutive blocks of counts, and what independent units make of it on average. Shared rise
    and fall from one block to the next looks like clumping, too, and makes evidence slower but not wrong."""

    recent: tuple[int, ...] = ()
    spread: float = 0.0
    freedom: int = 0
    blocks: int = 0

    @property
    def factor(self) -> float:
        """1 for independent units; with what is believed before anything is known, for those who must not be wrong."""
        return self._factor(_BELIEF)

    @property
    def measured(self) -> float:
        """1 for independent units, and as long as nothing is known."""
        return self._factor(0.0)

    def _factor(self, belief: float) -> float:
        certain = self.spread - _DOUBT * math.sqrt(2 * self.freedom)
        return max(1.0, (certain + belief * _BELIEVED) / max(1.0, self.freedom + belief))

    def update(self, counts: Sequence[int]) -> "Clumping":
        """Take in one block: how many units fell into each kind, the same kinds every time."""
        if not sum(counts):
            return self
        if not self.recent:
            return Clumping(tuple(counts), blocks=1)
        spread, freedom = _varied(self.recent, counts)
        return Clumping(tuple(counts), self.spread + spread, self.freedom + freedom, self.blocks + 1)


UNKNOWN = Clumping()


def _varied(before: Sequence[int], now: Sequence[int]) -> tuple[float, int]:
    """Chi-squared between two blocks, and its mean if units were dealt to them one by one."""
    m, n = sum(before), sum(now)
    up, down = math.sqrt(n / m), math.sqrt(m / n)
    kinds = [(a, b) for a, b in zip(before, now, strict=True) if a or b]
    squares = sum((a * up - b * down) ** 2 / (a + b) for a, b in kinds)
    return squares * (m + n - 1) / (m + n), len(kinds) - 1
