"""Where a rollout by evidence stands, as people see it: one value for status, metrics and whoever watches. Pure.

Everything here is derived from the deployment; nothing decides by it.
"""

import math
from dataclasses import dataclass

from deploy.evidence.blocks import Arm
from deploy.rollout.deployment import Deployment
from deploy.rollout.finding import Finding
from deploy.rollout.plan import Watched
from deploy.rollout.trial import Stage, Trial


@dataclass(frozen=True)
class Risk:
    """How many times as often the candidate's units are bad, between 0.05 and 20: what is beyond is shown as these.
    `lower` and `upper` hold at every moment at once, with the certainty that the guardrail's share of alpha leaves."""

    lower: float
    estimate: float
    upper: float


@dataclass(frozen=True)
class ShownGuardrail:
    """One guardrail's evidence, as powers of ten: 2.0 says that one is a hundred times likelier than the other.

    harm, harm_threshold    evidence that the candidate is worse (for predictions and mirrored answers: differs), and
                            where the plan acts on it
    safe, safe_threshold    evidence that it is no worse by the margin, and where that is enough; `safe` is None where
                            the guardrail has no such thing, and `required` says whether promotion waits for it
    risk                    None where nothing was bad yet, or where badness is no share of units
    live, candidate         units compared so far and how many of them were bad; of latency, beyond the bound that tells
                            most; of predictions, all and those that are no number
    said                    the same in counts, as a sentence
    """

    watched: Watched
    harm: float
    harm_threshold: float
    safe: float | None
    safe_threshold: float
    required: bool
    risk: Risk | None
    live: Arm
    candidate: Arm
    said: str


@dataclass(frozen=True)
class Shown:
    """A rollout by evidence that is under way.

    step, steps       which step of how many, from 1; of a mirrored candidate and after the switch as well
    stage             mirrored, in its steps, or baking
    weight            what the plan asks for now, in units of contracts.traffic; an operator's pause may differ
    dwelt, dwell      seconds in this step, and how long it lasts at least
    units, units_needed    requests the candidate finished in this step, and how many it must
    age, deadline     seconds since the first step, and after how many an operator decides
    unseen            seconds since the newest evidence
    eta               expected seconds to promotion of a candidate that is no worse; None where it cannot be said
    """

    step: int
    steps: int
    stage: Stage
    weight: int
    dwelt: float
    dwell: float
    units: int
    units_needed: int
    age: float
    deadline: float
    unseen: float
    guardrails: tuple[ShownGuardrail, ...]
    eta: float | None


def shown(deployment: Deployment) -> Shown | None:
    """None while no rollout by evidence is under way."""
    trial = deployment.trial
    if trial is None:
        return None
    baking = trial.stage is Stage.BAKING
    return Shown(
        step=trial.step + 1,
        steps=len(trial.plan.steps),
        stage=trial.stage,
        weight=trial.weight,
        dwelt=trial.dwelt,
        dwell=trial.plan.bake if baking else trial.here.dwell,
        units=trial.units,
        units_needed=0 if baking else trial.here.units,
        age=trial.age,
        deadline=trial.plan.deadline,
        unseen=trial.unseen,
        guardrails=tuple(_guardrail(trial, finding) for finding in trial.findings),
        eta=None,
    )


def _guardrail(trial: Trial, finding: Finding) -> ShownGuardrail:
    return ShownGuardrail(
        watched=finding.guardrail.watched,
        harm=finding.log_harm / math.log(10),
        harm_threshold=trial.needed(finding) / math.log(10),
        safe=finding.log_safe / math.log(10),
        safe_threshold=math.log10(1 / trial.plan.beta),
        required=finding.guardrail.required,
        risk=None,
        live=Arm(0, 0),
        candidate=Arm(0, 0),
        said=finding.said(trial.counted),
    )
