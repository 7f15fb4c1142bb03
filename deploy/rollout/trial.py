"""What a rollout by evidence has seen and where it stands in its plan: a value that grows with every tick.

It is part of the deployment and written with it, so no block of counts is ever used twice: what was not written
together with its effect is counted anew after a restart, from nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.errors import Internal
from deploy.evidence import absolute, relative
from deploy.evidence.absolute import Absolute
from deploy.evidence.blocks import Arm, Block
from deploy.evidence.logs import log_mean
from deploy.evidence.relative import Relative
from deploy.rollout.plan import Guardrail, Plan, Step, Watched

SUSPICIOUS = math.log(3)
"""Evidence of harm from which on nothing advances, long before it is enough to roll back."""


class Stage(StrEnum):
    """Where in its plan a rollout is, also while it stands still."""

    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True)
class Counted:
    """New counts of both versions over one stretch of time. `latency` has one block per threshold: requests slower
    than it are the bad ones."""

    errors: Block
    batches: Block
    latency: tuple[Block, ...] = ()

    def blocks(self, watched: Watched) -> tuple[Block, ...]:
        return {Watched.ERRORS: (self.errors,), Watched.BATCHES: (self.batches,), Watched.LATENCY: self.latency}[
            watched
        ]


@dataclass(frozen=True)
class Finding:
    """Evidence of one guardrail: a comparison per block kind and, with an objective, one with that."""

    guardrail: Guardrail
    comparisons: tuple[Relative, ...]
    objective: Absolute | None = None

    @property
    def log_harm(self) -> float:
        return log_mean([each.log_harm for each in self.comparisons])

    @property
    def log_safe(self) -> float:
        """Every comparison must be safe, or the objective met."""
        compared = min(each.log_safe for each in self.comparisons)
        return compared if self.objective is None else max(compared, self.objective.log_safe)

    def update(self, blocks: tuple[Block, ...]) -> "Finding":
        if len(blocks) != len(self.comparisons):
            raise Internal(f"evidence: {len(blocks)} blocks for {len(self.comparisons)} comparisons")
        compared = tuple(relative.update(e, block) for e, block in zip(self.comparisons, blocks, strict=True))
        objective = self.objective
        if objective is not None:
            objective = absolute.update(objective, blocks[0].candidate)
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
    counted: Counted = Counted(Block(Arm(0, 0), Arm(0, 0)), Block(Arm(0, 0), Arm(0, 0)))

    @classmethod
    def begin(cls, plan: Plan, thresholds: int) -> "Trial":
        """A trial before its first step. `thresholds` is how many latencies are compared."""
        return cls(plan, tuple(_finding(plan, guardrail, thresholds) for guardrail in plan.guardrails))

    @property
    def here(self) -> Step:
        return self.plan.steps[self.step]

    @property
    def harmed(self) -> Finding | None:
        """The guardrail with enough evidence of harm, the clearest one first."""
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

    def saw(self, counted: Counted) -> "Trial":
        """Take in new counts."""
        return replace(
            self,
            findings=tuple(f.update(counted.blocks(f.guardrail.watched)) for f in self.findings),
            units=self.units + counted.errors.candidate.units,
            unseen=0.0,
            counted=_sum(self.counted, counted),
        )


def _finding(plan: Plan, guardrail: Guardrail, thresholds: int) -> Finding:
    count = thresholds if guardrail.watched is Watched.LATENCY else 1
    objective = None if guardrail.objective is None else Absolute(guardrail.objective)
    return Finding(guardrail, (Relative(margin=plan.margin),) * count, objective)


def _sum(before: Counted, new: Counted) -> Counted:
    latency = before.latency or (Block(Arm(0, 0), Arm(0, 0)),) * len(new.latency)
    return Counted(
        _add(before.errors, new.errors),
        _add(before.batches, new.batches),
        tuple(_add(a, b) for a, b in zip(latency, new.latency, strict=True)),
    )


def _add(a: Block, b: Block) -> Block:
    return Block(
        Arm(a.live.units + b.live.units, a.live.bad + b.live.bad),
        Arm(a.candidate.units + b.candidate.units, a.candidate.bad + b.candidate.bad),
    )
