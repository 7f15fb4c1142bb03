"""One kind of bad unit on both versions: does the candidate have more of them, or is it shown not to? Values only."""

from dataclasses import dataclass, replace

from deploy.evidence import absolute, relative
from deploy.evidence.absolute import Absolute
from deploy.evidence.blocks import NOTHING, Block
from deploy.evidence.dispersion import Clumping
from deploy.evidence.logs import log_mean
from deploy.evidence.relative import Relative

_STRATA = 12  # steps of a plan and operators' own weights; more, and the first two become one


@dataclass(frozen=True)
class Comparison:
    """Evidence of one kind of bad unit.

    objective   a share of bad units that is fine in any case: versions that are almost never bad cannot be compared
    guarded     more than the objective is harm, whatever the live version does
    bound       for latency, the index in LATENCY_SECONDS beyond which a request counts as slow
    clumping    how the live version's bad units come together, where that tempers the evidence; None where it does not
    strata      what was counted at each weight, for the interval that people see
    """

    relative: Relative
    objective: Absolute | None = None
    guarded: bool = False
    bound: int | None = None
    clumping: Clumping | None = None
    strata: tuple[Block, ...] = (NOTHING,)

    @property
    def log_harm(self) -> float:
        """Worse than the other version; guarded, or beyond the objective: a mean of evidence is evidence."""
        if self.objective is None or not self.guarded:
            return self.relative.log_harm
        return log_mean((self.relative.log_harm, self.objective.log_harm))

    @property
    def log_safe(self) -> float:
        """No worse than the other version by more than the margin, or better than the objective."""
        if self.objective is None:
            return self.relative.log_safe
        return max(self.relative.log_safe, self.objective.log_safe)

    def update(self, block: Block, clump: float = 1.0) -> "Comparison":
        """Take in one block, of whose units so many share one fate at least. Bad units are not taken for independent
        before they are known to be; where there are none, there is no clumping to be afraid of."""
        *before, last = self.strata
        clumping, compared, alone = self.clumping, clump, clump
        if clumping is not None:
            compared, alone = max(clump, clumping.factor), max(clump, clumping.measured)
            clumping = clumping.update((block.live.bad, block.live.units - block.live.bad))
        return replace(
            self,
            relative=relative.update(self.relative, block, compared),
            objective=None if self.objective is None else absolute.update(self.objective, block.candidate, alone),
            clumping=clumping,
            strata=(*before, last + block),
        )

    def reweighed(self) -> "Comparison":
        """The weights change from here on."""
        if self.strata[-1] == NOTHING:
            return self
        kept = self.strata
        if len(kept) == _STRATA:
            kept = (kept[0] + kept[1], *kept[2:])
        return replace(self, strata=(*kept, NOTHING))
