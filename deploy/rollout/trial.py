"""What a rollout by evidence has seen and where it stands in its plan: a value that grows with every tick.

It is part of the deployment and written with it, so no block of counts is ever used twice: what was not written
together with its effect is counted anew after a restart, from nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.traffic import TOTAL
from deploy.evidence import absolute, relative
from deploy.evidence.absolute import Absolute
from deploy.evidence.blocks import NOTHING, Block
from deploy.evidence.counted import NONE_COUNTED, Counted
from deploy.evidence.logs import NONE, log_mean
from deploy.evidence.relative import Relative
from deploy.rollout.plan import Guardrail, Plan, Step, Watched

SUSPICIOUS = math.log(3)
"""Evidence of harm from which on nothing advances, long before it is enough to roll back."""
ENOUGH_FOR_QUANTILES = 200
"""Requests of the live version from which its quantiles are known well enough to compare with."""


class Stage(StrEnum):
    """Where in its plan a rollout is, also while it stands still."""

    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True)
class Finding:
    """Evidence of one guardrail.

    bounds       for latency, which bounds of LATENCY_SECONDS are compared, by index; () while they are not chosen
    comparisons  one per bound, or the only one of what else is watched
    objective    where the guardrail has one
    """

    guardrail: Guardrail
    comparisons: tuple[Relative, ...]
    bounds: tuple[int, ...] = ()
    objective: Absolute | None = None

    @property
    def log_harm(self) -> float:
        return log_mean([each.log_harm for each in self.comparisons]) if self.comparisons else NONE

    @property
    def log_safe(self) -> float:
        """Every comparison must be safe, or the objective met. Nothing compared is nothing shown."""
        compared = min((each.log_safe for each in self.comparisons), default=NONE)
        return compared if self.objective is None else max(compared, self.objective.log_safe)

    def blocks(self, counted: Counted) -> tuple[Block, ...]:
        """What this guardrail looks at."""
        if self.guardrail.watched is Watched.LATENCY:
            return tuple(counted.slower[i] if counted.slower else NOTHING for i in self.bounds)
        return (counted.errors if self.guardrail.watched is Watched.ERRORS else counted.batches,)

    def update(self, counted: Counted) -> "Finding":
        blocks = self.blocks(counted)
        compared = tuple(relative.update(e, block) for e, block in zip(self.comparisons, blocks, strict=True))
        objective = None if self.objective is None else absolute.update(self.objective, blocks[0].candidate)
        return replace(self, comparisons=compared, objective=objective)


@dataclass(frozen=True)
class Trial:
    """Times in seconds, as the process that watches measured them; the time of a restart belongs to none of them.

    step      index into the plan's steps; while baking, of the last one
    dwelt     in this step, with Envoy's acknowledgement and fresh evidence
    units     requests the candidate finished in this step
    age       of the rollout, from the first step on
    unseen    since the newest evidence
    paused    by an operator, this time
    counted   all there was, for people and for the record
    """

    plan: Plan
    findings: tuple[Finding, ...]
    stage: Stage = Stage.CANARY
    step: int = 0
    dwelt: float = 0.0
    units: int = 0
    age: float = 0.0
    unseen: float = 0.0
    paused: float = 0.0
    counted: Counted = NONE_COUNTED

    @classmethod
    def begin(cls, plan: Plan) -> "Trial":
        """A trial before its first step."""
        return cls(plan, tuple(_finding(plan, guardrail) for guardrail in plan.guardrails))

    @property
    def here(self) -> Step:
        return self.plan.steps[self.step]

    @property
    def weight(self) -> int:
        """The candidate's share that the plan asks for now, in units of contracts.traffic."""
        return TOTAL - self.plan.holdback if self.stage is Stage.BAKING else self.here.weight

    @property
    def harmed(self) -> Finding | None:
        """The guardrail with enough evidence of harm, the clearest one of several."""
        shown = [(f.log_harm - self.needed(f), f) for f in self.findings if f.log_harm >= self.needed(f)]
        return max(shown, key=lambda pair: pair[0])[1] if shown else None

    @property
    def suspected(self) -> Finding | None:
        return next((f for f in self.findings if f.log_harm >= SUSPICIOUS), None)

    def unproven(self) -> Iterator[Finding]:
        """Guardrails that promotion needs and that are not shown to be no worse."""
        enough = math.log(1 / self.plan.beta)
        return (f for f in self.findings if f.guardrail.required and f.log_safe < enough)

    def needed(self, finding: Finding) -> float:
        """log-evidence at which this guardrail rolls back."""
        return math.log(1 / self.plan.alpha_of(finding.guardrail))

    def begun(self, stage: Stage, step: int) -> "Trial":
        """At the beginning of a step, or of the bake."""
        return replace(self, stage=stage, step=step, dwelt=0.0, units=0)

    def saw(self, counted: Counted) -> "Trial":
        """Take in new counts. What is compared was chosen from older ones, never from these."""
        return replace(
            self,
            findings=tuple(self._chosen(finding).update(counted) for finding in self.findings),
            units=self.units + counted.errors.candidate.units,
            unseen=0.0,
            counted=self.counted + counted,
        )

    def _chosen(self, finding: Finding) -> Finding:
        """The finding with its bounds chosen, as soon as enough is known of the live version: the smallest bounds that
        its median, its 90th and its 99th percentile do not exceed."""
        if finding.guardrail.watched is not Watched.LATENCY or finding.bounds:
            return finding
        live = [block.live for block in self.counted.slower]
        if not live or live[0].units < ENOUGH_FOR_QUANTILES:
            return finding
        bounds = {next((i for i, arm in enumerate(live) if arm.bad <= q * arm.units), None) for q in _SLOWEST}
        chosen = tuple(sorted(i for i in bounds if i is not None))
        return replace(finding, bounds=chosen, comparisons=(Relative(margin=self.plan.margin),) * len(chosen))


_SLOWEST = (0.5, 0.1, 0.01)  # share of requests that are slower than each quantile


def _finding(plan: Plan, guardrail: Guardrail) -> Finding:
    known = guardrail.watched is not Watched.LATENCY
    objective = None if guardrail.objective is None else Absolute(guardrail.objective)
    return Finding(guardrail, (Relative(margin=plan.margin),) if known else (), (), objective)
