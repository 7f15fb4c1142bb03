"""Where a rollout by evidence stands, as people see it: one value for status, metrics and whoever watches. Pure.

Everything here is derived from the deployment; nothing decides by it.
"""

import math
from dataclasses import dataclass, replace

from contracts.traffic import TOTAL
from deploy.evidence.blocks import Arm
from deploy.evidence.interval import Risk, risk
from deploy.rollout.deployment import Deployment
from deploy.rollout.finding import Finding
from deploy.rollout.forecast import Live, forecast
from deploy.rollout.plan import OnHarm, Step, Strategy, Watched
from deploy.rollout.trial import Stage, Trial

_TEN = math.log(10)


@dataclass(frozen=True)
class ShownGuardrail:
    """One guardrail's evidence, as powers of ten: 2.0 says that one is a hundred times likelier than the other.

    on_harm                 what the plan does about harm, or about a difference
    harm, harm_threshold    evidence that the candidate is worse (for predictions and mirrored answers: differs), and
                            where the plan acts on it
    safe, safe_threshold    evidence that it is no worse by the margin, and where that is enough; `safe` is None where
                            the guardrail has no such thing, and `required` says whether promotion waits for it
    risk                    how many times as often the candidate's units are bad, with bounds that hold at every
                            moment at once as surely as the guardrail's share of alpha says; beyond 0.05 and 20 shown as
                            these. None where nothing was bad yet, or where badness is no share of units
    live, candidate         units compared so far and how many of them were bad; of latency, beyond the bound that tells
                            most; of predictions, all and those that are no number
    said                    the same in counts, as a sentence
    """

    watched: Watched
    on_harm: OnHarm
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
    twice             expected seconds until one that fails twice as often from now on is found out, at today's weight
                      and traffic; None where it never is
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
    twice: float | None


def shown(deployment: Deployment) -> Shown | None:
    """None while no rollout by evidence is under way."""
    trial = deployment.trial
    if trial is None:
        return None
    return Shown(
        step=trial.step + 1,
        steps=len(trial.plan.steps),
        stage=trial.stage,
        weight=trial.weight,
        dwelt=trial.dwelt,
        dwell=trial.dwell,
        units=trial.units,
        units_needed=trial.units_needed,
        age=trial.age,
        deadline=trial.plan.deadline,
        unseen=trial.unseen,
        guardrails=tuple(_guardrail(trial, finding) for finding in trial.findings),
        eta=_eta(trial),
        twice=_twice(trial),
    )


def _guardrail(trial: Trial, finding: Finding) -> ShownGuardrail:
    guardrail, safe = finding.guardrail, finding.log_safe
    block = finding.evidence.block(trial.counted)
    return ShownGuardrail(
        watched=guardrail.watched,
        on_harm=trial.plan.on_harm_of(guardrail),
        harm=finding.log_harm / _TEN,
        harm_threshold=trial.needed(finding) / _TEN,
        safe=None if safe is None else safe / _TEN,
        safe_threshold=math.log10(1 / trial.plan.beta),
        required=guardrail.required and safe is not None,
        risk=risk(finding.evidence.strata, trial.plan.alpha_of(guardrail)),
        live=block.live,
        candidate=block.candidate,
        said=finding.said(trial.counted),
    )


def _eta(trial: Trial) -> float | None:
    """Forecast from what was counted so far; never less than what is left of the plan."""
    plan, traffic = trial.plan, _traffic(trial)
    if traffic is None:
        return None
    left, spent = _left(trial), plan.shortest - _left(trial)
    expected = forecast(plan, traffic).promote - spent
    return max(left, expected) if math.isfinite(expected) else None


def _twice(trial: Trial) -> float | None:
    """Forecast of a plan that stays at the present weight."""
    traffic = _traffic(trial)
    if traffic is None or not trial.weight:
        return None
    staying = replace(trial.plan, steps=(Step(trial.weight, 0.0, 0),), holdback=TOTAL - trial.weight)
    seconds = {risk: seconds for risk, seconds, _ in forecast(staying, traffic).find}[2.0]
    return seconds if math.isfinite(seconds) else None


def _traffic(trial: Trial) -> Live | None:
    """What was counted so far, as what comes: None when nothing was."""
    total = trial.counted.errors
    requests = total.live.units + (0 if trial.stage is Stage.SHADOW else total.candidate.units)
    if not trial.age or not requests:
        return None
    return Live(requests / trial.age, total.live.bad / max(1, total.live.units))


def _left(trial: Trial) -> float:
    """Seconds to promotion when nothing holds it up."""
    here = max(0.0, trial.dwell - trial.dwelt)
    if trial.stage is Stage.BAKING or trial.plan.strategy is Strategy.SHADOW:
        return here
    after = 0 if trial.stage is Stage.SHADOW else trial.step + 1
    return here + sum(step.dwell for step in trial.plan.steps[after:]) + trial.plan.bake
