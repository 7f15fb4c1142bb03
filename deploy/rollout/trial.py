"""What a rollout by evidence has seen and where it stands in its plan: a value that grows with every tick.

It is part of the deployment and written with it, so no block of counts is ever used twice: what was not written
together with its effect is counted anew after a restart, from nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.traffic import TOTAL
from deploy.evidence.counted import NONE_COUNTED, Counted
from deploy.rollout.finding import Finding
from deploy.rollout.plan import Plan, Step

SUSPICIOUS = math.log(3)
"""Evidence of harm from which on nothing advances, long before it is enough to roll back."""


class Stage(StrEnum):
    """Where in its plan a rollout is, also while it stands still."""

    SHADOW = "shadow"
    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True)
class Trial:
    """Times in seconds, as the process that watches measured them; the time of a restart belongs to none of them.

    step      index into the plan's steps; while baking, of the last one
    dwelt     in this step, with Envoy's acknowledgement, and neither paused nor blind
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
        """A trial before its first step, which may be a mirror."""
        findings = tuple(Finding.begin(guardrail, plan.margin) for guardrail in plan.guardrails)
        return cls(plan, findings, Stage.SHADOW if plan.mirror else Stage.CANARY)

    @property
    def here(self) -> Step:
        return self.plan.steps[self.step]

    @property
    def weight(self) -> int:
        """The candidate's share that the plan asks for now, in units of contracts.traffic."""
        if self.stage is Stage.SHADOW:
            return 0
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
            findings=tuple(f.chosen(self.counted, self.plan.margin).update(counted) for f in self.findings),
            units=self.units + counted.errors.candidate.units,
            unseen=0.0,
            counted=self.counted + counted,
        )
