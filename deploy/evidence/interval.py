"""Which relative risks are compatible with what was seen? For people to look at; nothing decides by it.

The evidence against a risk is how much better a mixture of all risks explains who failed: a mixture that was fixed
beforehand, so all intervals of a rollout hold together (Ville's inequality), with the chance of 1 - alpha.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from deploy.evidence.blocks import Block
from deploy.evidence.logs import log_mean

SMALLEST, BIGGEST = 0.05, 20.0
_MIXED = tuple(SMALLEST * (BIGGEST / SMALLEST) ** (i / 24) for i in range(25))
_HALVINGS = 16  # of a search in the logarithm: four digits


class Risk(NamedTuple):
    """How many times as often the candidate's units are bad. Beyond SMALLEST and BIGGEST it is shown as these."""

    lower: float
    estimate: float
    upper: float


def risk(strata: Sequence[Block], alpha: float) -> Risk | None:
    """None while nothing bad was seen on two populated arms. Each stratum was counted at one weight."""
    told = [b for b in strata if b.live.units and b.candidate.units and b.live.bad + b.candidate.bad]
    if not told:
        return None

    def explains(log_risk: float) -> float:
        """log-likelihood, concave in the logarithm of the risk."""
        return sum(_explains(block, log_risk) for block in told)

    low, high = math.log(SMALLEST), math.log(BIGGEST)
    best = _crossing(lambda log_risk: sum(_surplus(block, log_risk) for block in told), low, high)
    least = log_mean([explains(math.log(theta)) for theta in _MIXED]) + math.log(alpha)
    lower = _crossing(lambda log_risk: explains(log_risk) - least, best, low)
    upper = _crossing(lambda log_risk: explains(log_risk) - least, best, high)
    return Risk(*(round(math.exp(x), 6) for x in (lower, best, upper)))


def _explains(block: Block, log_risk: float) -> float:
    bad = block.live.bad + block.candidate.bad
    exposed = math.exp(log_risk) * block.candidate.units + block.live.units
    return block.candidate.bad * log_risk - bad * math.log(exposed)


def _surplus(block: Block, log_risk: float) -> float:
    """Bad units of the candidate beyond what a risk makes expect: the slope of the log-likelihood."""
    exposed = math.exp(log_risk) * block.candidate.units
    bad = block.live.bad + block.candidate.bad
    return block.candidate.bad - bad * exposed / (exposed + block.live.units)


def _crossing(of: Callable[[float], float], above: float, below: float) -> float:
    """Where `of` falls through zero between two points; an end where it does not."""
    if of(above) <= 0:
        return above
    if of(below) >= 0:
        return below
    for _ in range(_HALVINGS):
        middle = (above + below) / 2
        above, below = (middle, below) if of(middle) > 0 else (above, middle)
    return (above + below) / 2
