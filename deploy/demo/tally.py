"""What answers add up to: shares, accuracy, latency, failures. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CHANCE_WIDTH = 5.0  # standard deviations; chance alone leaves this band once in two million steps


@dataclass(frozen=True)
class Answer:
    """One image's fate. `sent` is monotonic seconds; `failure` is None for an answer, else what went wrong."""

    sent: float
    seconds: float
    version: int | None = None
    correct: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class Tally:
    """A set of answers, counted."""

    answers: Sequence[Answer]

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(a.failure for a in self.answers if a.failure is not None)

    def of(self, version: int) -> int:
        """How many answers came from `version`."""
        return sum(a.version == version for a in self.answers)

    def share(self, version: int) -> float | None:
        """The percentage of answers that came from `version`; None when there were none at all."""
        answered = sum(a.version is not None for a in self.answers)
        return 100.0 * self.of(version) / answered if answered else None

    def accuracy(self, version: int) -> float | None:
        """The percentage of right answers among those of `version`; None when it gave none."""
        given = [a.correct for a in self.answers if a.version == version]
        return 100.0 * sum(given) / len(given) if given else None

    def latency(self, quantile: float) -> float | None:
        """Seconds within which this part of all requests, failures included, was over."""
        ordered = sorted(a.seconds for a in self.answers)
        return ordered[min(len(ordered) - 1, math.ceil(quantile * len(ordered)) - 1)] if ordered else None


def is_plausible(observed: int, total: int, percent: float) -> bool:
    """Whether `observed` of `total` answers fits a share of `percent`: a broken split does not, bad luck does."""
    expected = percent / 100.0
    spread = math.sqrt(max(total * expected * (1.0 - expected), 0.0))
    return abs(observed - total * expected) <= CHANCE_WIDTH * spread + 1e-9


def versions(answers: Iterable[Answer]) -> frozenset[int]:
    return frozenset(a.version for a in answers if a.version is not None)
