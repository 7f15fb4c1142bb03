"""What a rollout by evidence has seen and where it stands in its plan: a value that grows with every tick.

It is part of the deployment and written with it, so no block of counts is ever used twice: what was not written
together with its effect is counted anew after a restart, from nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.traffic import TOTAL
from deploy.evidence.blocks import NOTHING, Block
from deploy.evidence.counted import NONE_COUNTED, Counted
from deploy.evidence.illness import WELL, Illness
from deploy.rollout.finding import Finding
from deploy.rollout.plan import Plan, Step, Watched

SUSPICIOUS = math.log(3)
"""Evidence of harm from which on nothing advances, long before it is enough to roll back."""
MIRRORED_UNITS = 20
"""Mirrored requests that the candidate must have finished before it serves."""
_SPLIT_TOLERANCE = 0.02  # of all traffic
_SPLIT_CHANCE = 12.5  # -log of the chance that an even split looks wrong, at each look


class Stage(StrEnum):
    """Where in its plan a rollout is, also while it stands still."""

    SHADOW = "shadow"
    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True)
class Trial:
    """Times in seconds, as the process that watches measured them; the time of a restart belongs to none of them.

    step      index into the plan's steps; while baking, of the last one; while mirrored, 0
    dwelt     in this step, with Envoy's acknowledgement
    units     requests the candidate finished in this step
    age       of the rollout, from the first step on
    unseen    since the newest evidence
    paused    by an operator, this time
    counted   all there was, for people and for the record
    live, candidate    whether either version plainly fails now
    settled   counts came since the weights changed: the next ones are of these weights alone
    split     who got how many requests since then
    deaths    of the candidate's workers before its first step
    accepted  what an operator said may differ; `uneven`: that traffic may be divided otherwise than it should
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
    live: Illness = WELL
    candidate: Illness = WELL
    deaths: int = 0
    settled: bool = False
    split: Block = NOTHING
    accepted: tuple[Watched, ...] = ()
    uneven: bool = False

    @classmethod
    def begin(cls, plan: Plan, deaths: int = 0) -> "Trial":
        """A trial before its first step, which may be a mirror."""
        findings = tuple(Finding.begin(guardrail, plan) for guardrail in plan.guardrails)
        return cls(plan, findings, Stage.SHADOW if plan.mirror else Stage.CANARY, deaths=deaths)

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
    def dwell(self) -> float:
        """How long this step takes at least."""
        if self.stage is Stage.SHADOW:
            return self.plan.mirror_for
        return self.plan.bake if self.stage is Stage.BAKING else self.here.dwell

    @property
    def units_needed(self) -> int:
        """How many requests the candidate must finish in this step."""
        if self.stage is Stage.SHADOW:
            return MIRRORED_UNITS
        return 0 if self.stage is Stage.BAKING else self.here.units

    @property
    def following(self) -> Step | None:
        """The step after this one; None where the switch or the end comes next."""
        after = 0 if self.stage is Stage.SHADOW else self.step + 1
        return self.plan.steps[after] if self.stage is not Stage.BAKING and after < len(self.plan.steps) else None

    @property
    def harmed(self) -> Finding | None:
        """The guardrail with enough evidence of harm, the clearest one of several."""
        return self._clearest(merely=False)

    @property
    def differing(self) -> Finding | None:
        """The guardrail that shows how the versions differ, where that is no harm and nobody accepted it."""
        return self._clearest(merely=True)

    @property
    def suspected(self) -> Finding | None:
        return next((f for f in self.findings if f.log_harm >= SUSPICIOUS and not self._merely(f)), None)

    @property
    def wrongly_split(self) -> bool:
        """Traffic since the weights took hold is not divided as they say, by more than chance makes of it (Bernstein's
        bound, which is good for the first few requests, too), and nobody accepted it."""
        total, wanted = self.split.live.units + self.split.candidate.units, self.weight / TOTAL
        if not total or self.uneven or self.stage is Stage.SHADOW:
            return False
        by_chance = math.sqrt(2 * _SPLIT_CHANCE * total * wanted * (1 - wanted)) + _SPLIT_CHANCE / 3
        return abs(self.split.candidate.units - wanted * total) > max(_SPLIT_TOLERANCE * total, by_chance)

    def unproven(self) -> Iterator[Finding]:
        """Guardrails that promotion needs and that are not shown to be no worse."""
        enough = math.log(1 / self.plan.beta)
        required = ((f, f.log_safe) for f in self.findings if f.guardrail.required)
        return (f for f, safe in required if safe is not None and safe < enough)

    def needed(self, finding: Finding) -> float:
        """log-evidence at which this guardrail acts."""
        return math.log(1 / self.plan.alpha_of(finding.guardrail))

    def advanced(self) -> "Trial":
        """At the beginning of the step after this one."""
        return self.begun(Stage.CANARY, 0 if self.stage is Stage.SHADOW else self.step + 1)

    def begun(self, stage: Stage, step: int) -> "Trial":
        """At the beginning of a step, or of the bake."""
        return replace(self.reweighed(), stage=stage, step=step, dwelt=0.0, units=0)

    def reweighed(self) -> "Trial":
        """The weights change from here on."""
        findings = tuple(finding.reweighed() for finding in self.findings)
        return replace(self, findings=findings, settled=False, split=NOTHING)

    def saw(self, counted: Counted, *, in_force: bool) -> "Trial":
        """Take in new counts. While the live version alone plainly fails they are compared with nothing: being better
        than a sick version proves nothing about a sound one."""
        live, candidate = (self.live.update(counted.errors.live), self.candidate.update(counted.errors.candidate))
        settled = self.settled and in_force
        findings = self.findings
        if candidate.sick or not live.sick:
            mirrored = self.stage is Stage.SHADOW
            findings = tuple(f.update(self.counted, counted, mirrored=mirrored) for f in findings)
        return replace(
            self,
            findings=findings,
            units=self.units + counted.errors.candidate.units,
            unseen=self.unseen if counted.partial else 0.0,
            counted=self.counted + counted,
            live=live,
            candidate=candidate,
            settled=self.settled or in_force,
            split=self.split + counted.errors if settled and counted.ago <= self.dwelt else self.split,
        )

    def _clearest(self, *, merely: bool) -> Finding | None:
        shown = [
            (finding.log_harm - self.needed(finding), finding)
            for finding in self.findings
            if self._merely(finding) is merely and finding.log_harm >= self.needed(finding)
        ]
        left = [pair for pair in shown if pair[1].guardrail.watched not in self.accepted or not merely]
        return max(left, key=lambda pair: pair[0])[1] if left else None

    def _merely(self, finding: Finding) -> bool:
        return self.plan.merely_differs(finding.guardrail)
