"""Does a mirrored candidate disagree for the worse? Evidence from requests that both versions answered.

With labels: McNemar's test, made sequential. Only requests where exactly one version is right say anything; if the
candidate is no worse, each is the live version's with probability at most one half. Without labels there is only how
often the two disagree, which absolute.py bounds against a stated rate.
"""

import math
from dataclasses import dataclass

from deploy.evidence.logs import NONE, log_mean

CHANCES = (0.55, 0.6, 0.7, 0.8)
"""Chances that count as harm: of the live version being the right one where only one is."""


@dataclass(frozen=True)
class Paired:
    """Evidence from `only_live` requests that only the live version got right and `only_candidate` the other way."""

    only_live: int = 0
    only_candidate: int = 0

    def seen(self, *, live_right: bool, candidate_right: bool) -> "Paired":
        return Paired(
            self.only_live + (live_right and not candidate_right),
            self.only_candidate + (candidate_right and not live_right),
        )

    @property
    def log_harm(self) -> float:
        return self._log_evidence(self.only_live, self.only_candidate)

    @property
    def log_better(self) -> float:
        """log-evidence that the candidate is the right one more often."""
        return self._log_evidence(self.only_candidate, self.only_live)

    @staticmethod
    def _log_evidence(worse: int, better: int) -> float:
        if worse + better == 0:
            return NONE
        return log_mean([worse * math.log(2 * p) + better * math.log(2 * (1 - p)) for p in CHANCES])
