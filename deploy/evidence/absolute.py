"""Does the candidate fail more often than a stated rate? What decides when the live version never fails.

Products of likelihood ratios against the rate of the objective, over the candidate alone: a supermartingale as long as
its true rate is at most the objective's, so Ville's inequality bounds false alarms here too.
"""

import math
from dataclasses import dataclass, replace

from contracts.errors import InvalidInput
from deploy.evidence.blocks import Arm
from deploy.evidence.logs import NONE, log_mean, log_mix

FACTORS = (2.0, 4.0, 10.0)
"""Multiples of the objective that count as harm; of one that is near 1, fractions of the good units that are left."""
FRACTIONS = (0.0, 0.1, 1 / 3)
"""Fractions of the objective that a safe version may fail at. Never failing is refuted for ever by one failure, so the
other two stand by; they are believed little, so that a version that never fails is found out almost as fast."""
_BELIEF = (0.9, 0.05, 0.05)


@dataclass(frozen=True)
class Absolute:
    """Evidence about one version against `objective`, a share of bad units between 0 and 1.

    Raises InvalidInput for an objective outside of that."""

    objective: float
    dispersion: float = 1.0
    harm: tuple[float, ...] = (NONE,) * len(FACTORS)
    safe: tuple[float, ...] = (NONE,) * len(FRACTIONS)

    def __post_init__(self) -> None:
        if not 0 < self.objective < 1:
            raise InvalidInput(
                f"an objective of {self.objective:g} bad units per unit is not usable: expected between 0 and 1"
            )

    @property
    def log_harm(self) -> float:
        return log_mean(self.harm)

    @property
    def log_safe(self) -> float:
        """log-evidence that the rate is below the objective. Without one failure it reaches log(1/beta) after
        about ln(1/beta) / objective units: 3040 for 0.1 % at beta = 5 %."""
        return log_mix(self.safe, _BELIEF)


def update(so_far: Absolute, arm: Arm, clump: float = 1.0) -> Absolute:
    """Take in one version's part of a block; `clump` is as for relative.update."""
    power = 1.0 / max(1.0, so_far.dispersion, clump)
    good, rate = arm.units - arm.bad, so_far.objective
    worse = (min(factor * rate, 1 - (1 - rate) / factor) for factor in FACTORS)
    harm = tuple(
        e + power * (arm.bad * math.log(worse_rate / rate) + good * (math.log1p(-worse_rate) - math.log1p(-rate)))
        for e, worse_rate in zip(so_far.harm, worse, strict=True)
    )
    safe = tuple(
        e
        + power
        * ((arm.bad * _log(fraction) if arm.bad else 0.0) + good * (math.log1p(-fraction * rate) - math.log1p(-rate)))
        for e, fraction in zip(so_far.safe, FRACTIONS, strict=True)
    )
    return replace(so_far, harm=harm, safe=safe)


def _log(fraction: float) -> float:
    return math.log(fraction) if fraction > 0 else -math.inf
