"""Does the candidate fail more often than the live version? Evidence that may be looked at any time, and stopped on.

Each process multiplies, block by block, how much better one relative risk explains who failed than another does. Under
its null hypothesis it exceeds 1/alpha with probability at most alpha, ever, for any traffic, any weights that were
chosen before the block, and any shared rise and fall of the failure rate (Ville's inequality). Source: Lindon and
Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, arXiv 2011.03567; Lindon and Kallus, arXiv
2410.09282.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy.evidence.blocks import Block
from deploy.evidence.logs import NONE, log_mean

HARM = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Relative risks that count as harm, each as likely as the others before anything is seen."""
SAFE = (0.5, 0.75, 1.0)
"""Relative risks of a candidate that is no worse."""
_NEGLIGIBLE = 1e-18
_RARE = 0.1  # share of bad units in the smaller arm up to which failures are rare events


@dataclass(frozen=True)
class Relative:
    """Evidence so far: one log-likelihood ratio per multiple in HARM of `tolerance` against it, and one per relative
    risk in SAFE against `margin`.

    margin      the relative risk up to which a version counts as no worse
    tolerance   the relative risk up to which nothing is harm; of frequent failures, the odds ratio
    dispersion  how much more failures vary than independent ones would; 1 when units are independent. Evidence is
                tempered by it: L^(1/dispersion) keeps the bound where failures come in clumps
    """

    margin: float = 2.0
    tolerance: float = 1.0
    dispersion: float = 1.0
    harm: tuple[float, ...] = (NONE,) * len(HARM)
    safe: tuple[float, ...] = (NONE,) * len(SAFE)

    @property
    def log_harm(self) -> float:
        """log-evidence that the candidate fails more often. Harm is shown at log(1/alpha)."""
        return log_mean(self.harm)

    @property
    def log_safe(self) -> float:
        """log-evidence that it fails less than `margin` times as often. Shown at log(1/beta)."""
        return log_mean(self.safe)


def update(so_far: Relative, block: Block, clump: float = 1.0) -> Relative:
    """Take in one block. A block without failures, or with one arm empty, says nothing. `clump` is how many units of
    this block share one fate, where that is more than `dispersion` says; it is known without looking at who failed."""
    power = 1.0 / max(1.0, so_far.dispersion, clump)
    if block.live.bad + block.candidate.bad == 0 or not block.live.units or not block.candidate.units:
        return so_far
    fine = so_far.tolerance
    worse = _ratios([theta * fine for theta in HARM], fine, block)
    harm = tuple(e + power * more for e, more in zip(so_far.harm, worse, strict=True))
    ratios = _ratios if _rare(block) else _ratios_exact
    safe = tuple(e + power * more for e, more in zip(so_far.safe, ratios(SAFE, so_far.margin, block), strict=True))
    return replace(so_far, harm=harm, safe=safe)


def _ratios(thetas: Sequence[float], theta0: float, block: Block) -> list[float]:
    """log of how much better each relative risk of `thetas` explains the failures of a block than `theta0` does.

    Given a failure, it is the candidate's with probability θn_c / (θn_c + n_l). At θ0 = 1 this is safe for every rate:
    the exact law given the counts is hypergeometric, which is smaller in convex order than the binomial (Hoeffding
    1963), and the ratio is convex in the candidate's failures. At θ0 > 1, with odds for risks, the exact law is that of
    a sum of unlike coins (Harkness 1965) with a mean no larger than the binomial's, so the same holds for θ > θ0."""
    live, candidate, failed = block.live.units, block.candidate.units, block.candidate.bad
    bad, base = block.live.bad + failed, math.log(theta0 * candidate + live)
    return [failed * math.log(theta / theta0) + bad * (base - math.log(theta * candidate + live)) for theta in thetas]


def _rare(block: Block) -> bool:
    return block.live.bad + block.candidate.bad <= _RARE * min(block.live.units, block.candidate.units)


def _ratios_exact(thetas: Sequence[float], theta0: float, block: Block) -> list[float]:
    """As `_ratios` where failures are not rare: Fisher's noncentral hypergeometric law, with odds for risks."""
    base = log_fisher(theta0, block)
    return [log_fisher(theta, block) - base for theta in thetas]


def log_fisher(odds: float, block: Block) -> float:
    """log of the probability that so many of the failures are the candidate's, given how many there are in all.

    Only the terms around the mode are added up, each from its neighbour; further out they fall faster than a power."""
    live, candidate, k = block.live.units, block.candidate.units, block.candidate.bad
    bad = block.live.bad + k
    low, high = max(0, bad - live), min(bad, candidate)
    mode = min(high, max(low, _peak(odds, live, candidate, bad)))
    whole = weight = 1.0
    for i in range(mode, high):
        weight *= odds * (candidate - i) * (bad - i) / ((i + 1) * (live - bad + i + 1))
        whole += weight
        if weight < _NEGLIGIBLE:
            break
    weight = 1.0
    for i in range(mode, low, -1):
        weight *= i * (live - bad + i) / (odds * (candidate - i + 1) * (bad - i + 1))
        whole += weight
        if weight < _NEGLIGIBLE:
            break
    ways = _log_ways(live, candidate, bad, k) - _log_ways(live, candidate, bad, mode)
    return ways + (k - mode) * math.log(odds) - math.log(whole)


def _peak(odds: float, live: int, candidate: int, bad: int) -> int:
    """Where the law is highest: the root of a quadratic (Fog 2008, Sampling methods for Wallenius' and Fisher's
    noncentral hypergeometric distributions)."""
    a, b, c = odds - 1, -((candidate + bad + 2) * odds + live - bad), (candidate + 1) * (bad + 1) * odds
    root = -2 * c / (b - math.sqrt(b * b - 4 * a * c))
    return math.floor(root)


def _log_ways(live: int, candidate: int, bad: int, k: int) -> float:
    return _log_choose(candidate, k) + _log_choose(live, bad - k)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
