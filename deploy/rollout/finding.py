"""What the evidence says about one guardrail: a handful of comparisons, and what they add up to. Values only."""

from dataclasses import dataclass, replace

from contracts.metrics import LATENCY_SECONDS
from deploy.evidence import absolute, relative
from deploy.evidence.absolute import Absolute
from deploy.evidence.blocks import NOTHING, Block
from deploy.evidence.counted import Counted
from deploy.evidence.logs import NONE, log_mean
from deploy.evidence.relative import Relative
from deploy.rollout.plan import Guardrail, Watched

ENOUGH_FOR_QUANTILES = 200
"""Requests of the live version from which its quantiles are known well enough to compare with."""
_SLOWER = (0.5, 0.1, 0.01)  # share of the live version's requests beyond its median, 90th and 99th percentile


@dataclass(frozen=True)
class Comparison:
    """One kind of bad unit, on both versions.

    bound       for latency, the index in LATENCY_SECONDS beyond which a request counts as slow
    objective   a share of bad units that is fine in any case: versions that are almost never bad cannot be compared
    """

    relative: Relative
    objective: Absolute | None = None
    bound: int | None = None

    @property
    def log_harm(self) -> float:
        return self.relative.log_harm

    @property
    def log_safe(self) -> float:
        """No worse than the other version by more than the margin, or better than the objective."""
        return (
            self.relative.log_safe if self.objective is None else max(self.relative.log_safe, self.objective.log_safe)
        )

    def update(self, block: Block) -> "Comparison":
        objective = None if self.objective is None else absolute.update(self.objective, block.candidate)
        return replace(self, relative=relative.update(self.relative, block), objective=objective)


@dataclass(frozen=True)
class Finding:
    """Evidence of one guardrail. Latency has no comparison before the live version's quantiles are known."""

    guardrail: Guardrail
    comparisons: tuple[Comparison, ...]

    @classmethod
    def begin(cls, guardrail: Guardrail, margin: float) -> "Finding":
        if guardrail.watched is Watched.LATENCY:
            return cls(guardrail, ())
        objective = None if guardrail.objective is None else Absolute(guardrail.objective)
        return cls(guardrail, (Comparison(Relative(margin=margin), objective),))

    @property
    def log_harm(self) -> float:
        return log_mean([each.log_harm for each in self.comparisons]) if self.comparisons else NONE

    @property
    def log_safe(self) -> float:
        """All of them must be safe. Nothing compared is nothing shown."""
        return min((each.log_safe for each in self.comparisons), default=NONE)

    def update(self, counted: Counted) -> "Finding":
        return replace(self, comparisons=tuple(each.update(self._block(each, counted)) for each in self.comparisons))

    def chosen(self, counted: Counted, margin: float) -> "Finding":
        """Latency's bounds, chosen from what was counted so far: the smallest that the live version's median, 90th and
        99th percentile do not exceed. Choose before looking at what they are compared on."""
        live = [block.live for block in counted.slower]
        known = live and live[0].units >= ENOUGH_FOR_QUANTILES
        if self.guardrail.watched is not Watched.LATENCY or self.comparisons or not known:
            return self
        noticed = [i for i, seconds in enumerate(LATENCY_SECONDS) if seconds >= self.guardrail.floor]
        rarest: dict[int, float] = {}
        for share in _SLOWER:
            bound = next((i for i in noticed if live[i].bad <= share * live[i].units), None)
            if bound is not None:
                rarest[bound] = share
        return replace(
            self, comparisons=tuple(_slower_than(bound, share, margin) for bound, share in sorted(rarest.items()))
        )

    def said(self, counted: Counted) -> str:
        """The clearest of its comparisons in counts, such as "12 of 300 slower than 25 ms against 9 of 2700"."""
        clearest = max(self.comparisons, key=lambda each: each.log_harm, default=None)
        if clearest is None:
            return "nothing to compare with yet"
        block, what = self._block(clearest, counted), ""
        if clearest.bound is not None:
            what = f" slower than {LATENCY_SECONDS[clearest.bound] * 1000:g} ms"
        return f"{block.candidate.bad} of {block.candidate.units}{what} against {block.live.bad} of {block.live.units}"

    def _block(self, comparison: Comparison, counted: Counted) -> Block:
        if comparison.bound is not None:
            return counted.slower[comparison.bound] if counted.slower else NOTHING
        return counted.errors if self.guardrail.watched is Watched.ERRORS else counted.batches


def _slower_than(bound: int, share: float, margin: float) -> Comparison:
    objective = share * margin
    tested = Absolute(objective) if objective < 1 / max(absolute.FACTORS) else None
    return Comparison(Relative(margin=margin), tested, bound)
