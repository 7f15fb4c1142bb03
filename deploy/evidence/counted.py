"""Everything that is counted of two versions over one stretch of time, as blocks: what a rollout is steered by."""

from dataclasses import dataclass
from itertools import zip_longest

from deploy.evidence.blocks import NOTHING, Block


@dataclass(frozen=True)
class Counted:
    """New counts of both versions over one stretch of time. `slower` has one block per bound of
    contracts.metrics.LATENCY_SECONDS, in their order: requests that took longer than it are the bad ones."""

    errors: Block
    batches: Block
    slower: tuple[Block, ...] = ()

    def __add__(self, other: "Counted") -> "Counted":
        slower = tuple(a + b for a, b in zip_longest(self.slower, other.slower, fillvalue=NOTHING))
        return Counted(self.errors + other.errors, self.batches + other.batches, slower)


NONE_COUNTED = Counted(NOTHING, NOTHING)
