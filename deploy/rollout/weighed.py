"""What each kind of guardrail weighs, and what that says in counts: four kinds of evidence with one form. Values only.

`log_harm` is evidence that the candidate is worse, or differs; `log_safe` that it is no worse by what the plan
tolerates, None where there is no such thing to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from contracts.metrics import LATENCY_SECONDS
from deploy.evidence import absolute, betting, categories
from deploy.evidence.absolute import Absolute
from deploy.evidence.betting import Betting
from deploy.evidence.blocks import NOTHING, Arm, Block
from deploy.evidence.categories import Categories
from deploy.evidence.counted import Bins, Counted
from deploy.evidence.dispersion import UNKNOWN
from deploy.evidence.logs import NONE, log_mean
from deploy.evidence.paired import Paired
from deploy.evidence.relative import Relative
from deploy.rollout.comparison import Comparison
from deploy.rollout.plan import DISAGREEMENT, Guardrail, Plan, Watched

ENOUGH_FOR_QUANTILES = 200
"""Requests of the live version from which its quantiles are known well enough to compare with."""
_FATES_IN_A_LOOK = 4.0  # independent failures that predictions without a number count as, at most
_SLOWER = (0.5, 0.1, 0.01)  # share of the live version's requests beyond its median, 90th and 99th percentile


@dataclass(frozen=True)
class Failures:
    """Requests, engine runs or predictions that fail."""

    watched: Watched
    comparison: Comparison
    kind: Literal["failures"] = "failures"

    @property
    def log_harm(self) -> float:
        return self.comparison.log_harm

    @property
    def log_safe(self) -> float | None:
        return self.comparison.log_safe

    @property
    def strata(self) -> Sequence[Block]:
        return self.comparison.strata

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Failures":
        del past, mirrored
        return replace(self, comparison=self.comparison.update(self.block(counted), self._clump(counted)))

    def reweighed(self) -> "Failures":
        return replace(self, comparison=self.comparison.reweighed())

    def block(self, counted: Counted) -> Block:
        if self.watched is Watched.ERRORS:
            return counted.errors
        return counted.batches if self.watched is Watched.BATCHES else _no_numbers(counted.predictions)

    def said(self, counted: Counted) -> str:
        block = self.block(counted)
        what = " are no number" if self.watched is Watched.NONFINITE else ""
        return f"{block.candidate.bad} of {block.candidate.units}{what} against {block.live.bad} of {block.live.units}"

    def _clump(self, counted: Counted) -> float:
        """Predictions are rows, and what makes one row of a run no number makes many. Those of a single look may all be
        one caller's, so they count as few: two looks at least are needed for harm."""
        if self.watched is not Watched.NONFINITE:
            return 1.0
        block, runs = self.block(counted), counted.batches.live.units + counted.batches.candidate.units
        rows = (block.live.units + block.candidate.units) / runs if runs else 1.0
        return max(rows, block.candidate.bad / _FATES_IN_A_LOOK)


@dataclass(frozen=True)
class Latency:
    """Requests slower than the live version's own quantiles. Nothing is compared before these are known."""

    floor: float
    relative: Relative
    comparisons: tuple[Comparison, ...] = ()
    kind: Literal["latency"] = "latency"

    @property
    def log_harm(self) -> float:
        return log_mean([each.log_harm for each in self.comparisons]) if self.comparisons else NONE

    @property
    def log_safe(self) -> float | None:
        """All of them must be safe. Nothing compared is nothing shown."""
        return min((each.log_safe for each in self.comparisons), default=NONE)

    @property
    def strata(self) -> Sequence[Block]:
        clearest = self._clearest
        return () if clearest is None else clearest.strata

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Latency":
        """What is compared was chosen from older counts, never from these."""
        del mirrored
        chosen = self._chosen(past)
        return replace(chosen, comparisons=tuple(each.update(_slower(each, counted)) for each in chosen.comparisons))

    def reweighed(self) -> "Latency":
        return replace(self, comparisons=tuple(each.reweighed() for each in self.comparisons))

    def block(self, counted: Counted) -> Block:
        return NOTHING if self._clearest is None else _slower(self._clearest, counted)

    def said(self, counted: Counted) -> str:
        if self._clearest is None or self._clearest.bound is None:
            return "nothing to compare with yet"
        block, bound = self.block(counted), LATENCY_SECONDS[self._clearest.bound] * 1000
        return (
            f"{block.candidate.bad} of {block.candidate.units} slower than {bound:g} ms "
            f"against {block.live.bad} of {block.live.units}"
        )

    @property
    def _clearest(self) -> Comparison | None:
        return max(self.comparisons, key=lambda each: each.log_harm, default=None)

    def _chosen(self, past: Counted) -> "Latency":
        """The smallest bounds that the live version's median, 90th and 99th percentile do not exceed."""
        live = [block.live for block in past.slower]
        if self.comparisons or not live or live[0].units < ENOUGH_FOR_QUANTILES:
            return self
        noticed = [i for i, seconds in enumerate(LATENCY_SECONDS) if seconds >= self.floor]
        rarest: dict[int, float] = {}
        for share in _SLOWER:
            bound = next((i for i in noticed if live[i].bad <= share * live[i].units), None)
            if bound is not None:
                rarest[bound] = share
        return replace(self, comparisons=tuple(self._slower_than(bound, rarest[bound]) for bound in sorted(rarest)))

    def _slower_than(self, bound: int, share: float) -> Comparison:
        objective = share * self.relative.margin
        tested = Absolute(objective, self.relative.dispersion) if objective < 1 else None
        return Comparison(self.relative, tested, bound=bound, clumping=UNKNOWN)


@dataclass(frozen=True)
class Predictions:
    """How often which answer is given. Evidence counts as long as the difference is worth attention."""

    min_jsd_bits: float
    categories: Categories | None = None
    kind: Literal["predictions"] = "predictions"

    @property
    def log_harm(self) -> float:
        if self.categories is None or self.categories.divergence < self.min_jsd_bits:
            return NONE
        return self.categories.log_differ

    @property
    def log_safe(self) -> float | None:
        return None

    @property
    def strata(self) -> Sequence[Block]:
        return ()

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Predictions":
        del past, mirrored
        bins = counted.predictions
        size = max(len(bins.live), len(bins.candidate))
        if size == 0:
            return self
        before = self.categories or Categories.of(size)
        live, candidate = (each or (0,) * size for each in (bins.live, bins.candidate))
        return replace(self, categories=categories.update(before, live, candidate))

    def reweighed(self) -> "Predictions":
        return self

    def block(self, counted: Counted) -> Block:
        return _no_numbers(counted.predictions)

    def said(self, counted: Counted) -> str:
        live, candidate = counted.predictions.live, counted.predictions.candidate
        if self.categories is None or not sum(live) or not sum(candidate):
            return "no predictions were looked at on both versions yet"
        bits = f"they differ by {self.categories.divergence:.2g} bits"
        top = max(range(len(candidate)), key=lambda i: candidate[i])
        here, there = candidate[top] / sum(candidate), live[top] / sum(live)
        what = "no number" if top == len(candidate) - 1 else f"one class or range (bin {top})"
        return f"{bits}: the candidate answers {what} in {_share(here)}, the live version in {_share(there)}"


@dataclass(frozen=True)
class Quality:
    """Outcomes that somebody labelled. Labels of one mirrored request that both answered are a pair by nature; others
    are paired as they arrive."""

    betting: Betting
    paired: Paired = field(default_factory=Paired)
    kind: Literal["quality"] = "quality"

    @property
    def log_harm(self) -> float:
        return log_mean((self.betting.log_harm, self.paired.log_harm))

    @property
    def log_safe(self) -> float | None:
        return self.betting.log_safe

    @property
    def strata(self) -> Sequence[Block]:
        return ()

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Quality":
        del past
        bets, paired = self.betting, self.paired
        for live, candidate in counted.judged:
            if mirrored and {live, candidate} <= {0.0, 1.0}:
                paired = paired.seen(live_right=live == 1.0, candidate_right=candidate == 1.0)
            else:
                bets = betting.update(bets, live, candidate)
        return replace(self, betting=bets, paired=paired)

    def reweighed(self) -> "Quality":
        return self

    def block(self, counted: Counted) -> Block:
        del counted
        pairs = self.betting.count + self.paired.only_live + self.paired.only_candidate
        return Block(Arm(pairs, 0), Arm(pairs, 0))

    def said(self, counted: Counted) -> str:
        del counted
        told = []
        if self.betting.count:
            gain = 2 * self.betting.total / self.betting.count - 1
            told.append(
                f"{abs(gain):.2g} {'higher' if gain > 0 else 'lower'} than the live version's in "
                f"{self.betting.count} pairs of labels"
            )
        if self.paired != Paired():
            told.append(
                f"only the live version was right in {self.paired.only_live} mirrored requests, "
                f"only the candidate in {self.paired.only_candidate}"
            )
        return "; ".join(told) or "nothing was labelled yet"


@dataclass(frozen=True)
class Agreement:
    """Mirrored requests that were answered differently, against a share that may be."""

    objective: Absolute
    kind: Literal["agreement"] = "agreement"

    @property
    def log_harm(self) -> float:
        return self.objective.log_harm

    @property
    def log_safe(self) -> float | None:
        return self.objective.log_safe

    @property
    def strata(self) -> Sequence[Block]:
        return ()

    def update(self, past: Counted, counted: Counted, *, mirrored: bool) -> "Agreement":
        del past, mirrored
        return replace(self, objective=absolute.update(self.objective, self.block(counted).candidate))

    def reweighed(self) -> "Agreement":
        return self

    def block(self, counted: Counted) -> Block:
        both = counted.compared.same + counted.compared.different
        return Block(Arm(both, 0), Arm(both, counted.compared.different))

    def said(self, counted: Counted) -> str:
        arm = self.block(counted).candidate
        if not arm.units:
            return "no mirrored request was compared yet"
        return (
            f"{arm.bad} of {arm.units} mirrored requests were answered differently, "
            f"where {_share(self.objective.objective)} may be"
        )


Weighed = Annotated[Failures | Latency | Predictions | Quality | Agreement, Field(discriminator="kind")]


def weighed(guardrail: Guardrail, plan: Plan) -> Failures | Latency | Predictions | Quality | Agreement:
    """What a guardrail of a plan weighs, before anything is seen."""
    relative = Relative(margin=plan.margin, tolerance=guardrail.tolerated, dispersion=guardrail.dispersion)
    match guardrail.watched:
        case Watched.LATENCY:
            return Latency(guardrail.floor, relative)
        case Watched.PREDICTIONS:
            return Predictions(guardrail.min_jsd_bits)
        case Watched.QUALITY:
            return Quality(Betting(guardrail.loss))
        case Watched.SHADOW:
            return Agreement(Absolute(guardrail.objective or DISAGREEMENT, guardrail.dispersion))
        case _:
            objective = None if guardrail.objective is None else Absolute(guardrail.objective, guardrail.dispersion)
            guarded = plan.absolute_slo_guard
            return Failures(guardrail.watched, Comparison(relative, objective, guarded))


def _slower(comparison: Comparison, counted: Counted) -> Block:
    return counted.slower[comparison.bound] if counted.slower and comparison.bound is not None else NOTHING


def _no_numbers(bins: Bins) -> Block:
    return Block(*(Arm(sum(arm), arm[-1]) if arm else Arm(0, 0) for arm in (bins.live, bins.candidate)))


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"
