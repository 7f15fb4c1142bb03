"""Is the candidate's quality worse? Evidence from pairs of outcomes between 0 and 1, by betting against "not worse".

The i-th labelled outcome of either version make a pair, in the order in which labels arrive. A gambler who stakes a
share of his wealth on the candidate being worse cannot grow rich while it is not: his wealth is the evidence. Source:
Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 2024, arXiv 2010.09686.
"""

import math
from dataclasses import dataclass, replace

from contracts.errors import InvalidInput
from deploy.evidence.logs import NONE


@dataclass(frozen=True)
class Betting:
    """The wealth of two gamblers about the mean difference candidate - live.

    margin      the loss of quality that is tolerated, between 0 and 1
    log_harm    wealth of the one who bets that the loss is bigger than the margin
    log_safe    wealth of the one who bets that it is smaller
    count, total, square    of the differences seen, scaled to 0…1: what the stakes are made from
    """

    margin: float
    log_harm: float = NONE
    log_safe: float = NONE
    count: int = 0
    total: float = 0.0
    square: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise InvalidInput(f"a margin of {self.margin:g} is not usable: expected 0 or more and less than 1")


_MOST_STAKE = 0.5  # share of the wealth that may be lost in one bet: a gambler who never risks all can always recover


def update(so_far: Betting, live: float, candidate: float) -> Betting:
    """Take in one pair of outcomes, each between 0 (wrong) and 1 (right). Raises InvalidInput outside of that."""
    if not (0 <= live <= 1 and 0 <= candidate <= 1):
        raise InvalidInput(f"outcomes are between 0 and 1, got {live:g} and {candidate:g}")
    difference = (candidate - live + 1) / 2
    border = (1 - so_far.margin) / 2
    mean = (so_far.total + 0.5) / (so_far.count + 1)
    # Two regular observations are pretended, so that the first stakes are small.
    variance = (so_far.square + 0.25) / (so_far.count + 1)
    wish = (border - mean) / (variance + (border - mean) ** 2)
    harm, safe = max(0.0, wish), max(0.0, -wish)
    gain = border - difference
    return replace(
        so_far,
        log_harm=so_far.log_harm + math.log1p(min(harm, _MOST_STAKE / (1 - border)) * gain),
        log_safe=so_far.log_safe + math.log1p(min(safe, _MOST_STAKE / border) * -gain),
        count=so_far.count + 1,
        total=so_far.total + difference,
        square=so_far.square + (difference - (so_far.total + 0.5) / (so_far.count + 1)) ** 2,
    )
