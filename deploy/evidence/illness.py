"""Does a version plainly fail, whatever the other one does? An alarm with a short memory, to stand still by and say so.

A cumulative sum of likelihood ratios, kept between nothing and a ceiling, so that it is raised within a few failures
and over some hundred good requests later. It promises no bound on false alarms, so nothing is rolled back by it.
"""

import math
from dataclasses import dataclass

from deploy.evidence.blocks import Arm

_WELL, _ILL = 0.02, 0.1  # shares of failures; from about a twentieth on the sum rises
_RAISED, _CEILING = 7.0, 12.0
_FADING = 0.8  # what a block weighs when the next one comes


@dataclass(frozen=True)
class Illness:
    """`units` and `bad` fade from block to block: they are what to say about it now."""

    level: float = 0.0
    sick: bool = False
    units: float = 0.0
    bad: float = 0.0

    def update(self, arm: Arm) -> "Illness":
        """Take in one version's part of a block. Without requests nothing changes."""
        if not arm.units:
            return self
        good = arm.units - arm.bad
        change = arm.bad * math.log(_ILL / _WELL) + good * math.log((1 - _ILL) / (1 - _WELL))
        level = min(_CEILING, max(0.0, self.level + change))
        sick = level >= _RAISED or (self.sick and level > 0)
        return Illness(level, sick, _FADING * self.units + arm.units, _FADING * self.bad + arm.bad)

    @property
    def said(self) -> str:
        return f"{100 * self.bad / self.units:.2g} % of its requests" if self.units else "no requests yet"


WELL = Illness()
