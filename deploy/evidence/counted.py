"""Everything that is counted of two versions over one stretch of time, as blocks: what a rollout is steered by."""

from dataclasses import dataclass
from itertools import zip_longest

from deploy.evidence.blocks import NOTHING, Block


@dataclass(frozen=True)
class Bins:
    """How often each version predicted what: counts per bin of serving/summary.py, in its order. Empty tuples where
    nothing was looked at; the last bin is what is no number."""

    live: tuple[int, ...] = ()
    candidate: tuple[int, ...] = ()

    def __add__(self, other: "Bins") -> "Bins":
        return Bins(_added(self.live, other.live), _added(self.candidate, other.candidate))


@dataclass(frozen=True)
class Compared:
    """Requests that both versions answered, one of them to nobody: how many they answered alike, and how many not."""

    same: int = 0
    different: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(self.same + other.same, self.different + other.different)


NO_BINS = Bins()
NOT_COMPARED = Compared()


@dataclass(frozen=True)
class Counted:
    """New counts of both versions over one stretch of time.

    slower       one block per bound of contracts.metrics.LATENCY_SECONDS, in their order: requests that took longer
                 than it are the bad ones
    predictions  what was predicted, from the engine runs that were looked at
    judged       pairs of labelled outcomes (live, candidate), each from 0 (wrong) to 1 (right), in order of arrival
    compared     mirrored requests
    partial      what is missing of this stretch, such as the engine runs; empty when nothing is. What there is may
                 speak of harm, but is not enough to go ahead on
    ago          seconds since the stretch began, as far as that is known: it may be older than the weights in force
    """

    errors: Block
    batches: Block
    slower: tuple[Block, ...] = ()
    predictions: Bins = NO_BINS
    judged: tuple[tuple[float, float], ...] = ()
    compared: Compared = NOT_COMPARED
    partial: str = ""
    ago: float = 0.0

    def __add__(self, other: "Counted") -> "Counted":
        """The sum. Judged pairs are evidence in their order and nothing to add up: the sum has none."""
        slower = tuple(a + b for a, b in zip_longest(self.slower, other.slower, fillvalue=NOTHING))
        return Counted(
            self.errors + other.errors,
            self.batches + other.batches,
            slower,
            self.predictions + other.predictions,
            (),
            self.compared + other.compared,
        )


NONE_COUNTED = Counted(NOTHING, NOTHING)


def _added(here: tuple[int, ...], there: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(here, there, fillvalue=0))
