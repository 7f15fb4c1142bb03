"""One tick of a rollout by evidence: what was seen goes in, and what follows from it comes out. Pure.

The order is the policy. Harm first, from every state and whoever has paused it; then a candidate that cannot answer;
then everything that makes one stand still, because not knowing is an answer; and only then a step ahead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from contracts.traffic import TOTAL, percent
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import State
from deploy.rollout.finding import Finding
from deploy.rollout.plan import OnBlind, OnHarm
from deploy.rollout.trial import Stage, Trial

_SPLIT_TOLERANCE = 0.02  # of all traffic; heavy callers with a sticky key make small samples uneven
_SPLIT_SIGMAS = 4.0


@dataclass(frozen=True)
class Seen:
    """One look at the world.

    seconds    since the look before, on this process' monotonic clock; 0 for its first one
    counted    new counts, None when there are none, and then `gap` says why
    in_force   Envoy acknowledged the weights that are recorded
    live, candidate    ready workers of either version
    """

    seconds: float
    counted: Counted | None
    gap: str = "no evidence yet"
    in_force: bool = True
    live: int = 1
    candidate: int = 1


class Turn(Enum):
    """What follows from a look."""

    STAY = auto()
    ADVANCE = auto()  # the next step
    CUTOVER = auto()  # all traffic but the holdback
    PROMOTE = auto()
    ROLLBACK = auto()
    HALT = auto()  # stand still in the state that is named
    GO_ON = auto()  # what made it stand still is over


class Judgement(NamedTuple):
    turn: Turn
    reason: str
    state: State | None = None


def steer(state: State, trial: Trial, seen: Seen) -> tuple[Trial, Judgement]:
    """The trial with what was seen taken in, and what follows. The first look of a process never moves ahead."""
    trial = _take_in(state, trial, seen)
    for rule in _RULES:
        judgement = rule(state, trial, seen)
        if judgement is not None:
            return trial, judgement
    return trial, Judgement(Turn.STAY, _progress(trial))


def _take_in(state: State, trial: Trial, seen: Seen) -> Trial:
    """Every tick's time counts, also of those between two looks at the counters: what happened in it is in the counts
    that come with the next look."""
    moves = seen.in_force and state not in _STANDING
    trial = replace(
        trial,
        age=trial.age + seen.seconds,
        unseen=trial.unseen + seen.seconds,
        paused=trial.paused + seen.seconds if state is State.PAUSED else 0.0,
        dwelt=trial.dwelt + seen.seconds if moves else trial.dwelt,
    )
    return trial if seen.counted is None else trial.saw(seen.counted)


_STANDING = frozenset({State.PAUSED, State.BLIND, State.INCONCLUSIVE})


def _harm(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    finding = trial.harmed
    if finding is None:
        return None
    said = f"{finding.guardrail.watched} of the candidate are worse: {_evidence(trial, finding)}"
    if trial.plan.on_harm is OnHarm.ROLLBACK:
        if seen.live == 0:
            return _halt(state, State.HOLD, f"{said}; the live version has no ready worker to go back to")
        return Judgement(Turn.ROLLBACK, said)
    return _halt(state, State.HOLD, f"{said}; the plan freezes on harm")


def _candidate_down(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del trial
    if seen.candidate > 0:
        return None
    if seen.live == 0:
        return _halt(state, State.HOLD, "neither version has a ready worker: nothing would be gained by moving")
    return Judgement(Turn.ROLLBACK, "the candidate has no ready worker")


def _live_down(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del trial
    if seen.live > 0:
        return None
    return _halt(
        state,
        State.HOLD,
        "the live version has no ready worker, so there is nothing to compare with: an operator decides",
    )


def _undecided(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del seen
    if state is State.INCONCLUSIVE:
        return Judgement(Turn.STAY, "an operator decides: extend, abort, or promote with override")
    if state is State.PAUSED:
        if trial.paused < trial.plan.pause_most:
            return Judgement(Turn.STAY, "paused by an operator; a rollback for harm stays armed")
        return Judgement(Turn.HALT, f"paused for {trial.plan.pause_most / 3600:g} h", State.INCONCLUSIVE)
    if trial.age >= trial.plan.deadline:
        return Judgement(
            Turn.HALT, f"no decision within {trial.plan.deadline / 60:g} min: {_progress(trial)}", State.INCONCLUSIVE
        )
    return None


def _blind(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    plan = trial.plan
    if trial.unseen < plan.blind_after:
        return None
    if trial.unseen >= plan.blind_after + plan.blind_deadline and plan.on_blind is OnBlind.ROLLBACK and seen.live:
        return Judgement(Turn.ROLLBACK, f"no evidence for {trial.unseen:.0f} s: {seen.gap}; the plan rolls back then")
    return _halt(state, State.BLIND, f"no evidence for {trial.unseen:.0f} s: {seen.gap}")


def _suspicion(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del seen
    finding = trial.suspected
    if finding is None:
        return None
    return _halt(
        state, State.HOLD, f"{finding.guardrail.watched} of the candidate look worse: {_evidence(trial, finding)}"
    )


def _wrong_split(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    if seen.counted is None or not seen.in_force:
        return None
    total = seen.counted.errors.live.units + seen.counted.errors.candidate.units
    if total == 0:
        return None
    wanted, observed = trial.weight / TOTAL, seen.counted.errors.candidate.units / total
    tolerated = max(_SPLIT_TOLERANCE, _SPLIT_SIGMAS * math.sqrt(wanted * (1 - wanted) / total))
    if abs(observed - wanted) <= tolerated:
        return None
    return _halt(
        state,
        State.HOLD,
        f"the candidate gets {100 * observed:.1f} % of the requests where {percent(trial.weight)} is in force",
    )


def _recovered(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    """Nothing above holds it up any more."""
    if state not in (State.HOLD, State.BLIND) or seen.counted is None:
        return None
    return Judgement(Turn.GO_ON, f"what held it up is over; {_progress(trial)}")


def _ahead(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del state
    if not seen.in_force or seen.counted is None or seen.seconds == 0:
        return None
    if trial.stage is Stage.BAKING:
        if trial.dwelt < trial.plan.bake:
            return None
        return Judgement(Turn.PROMOTE, f"no harm in {trial.plan.bake:g} s beside the version before it")
    if trial.dwelt < trial.here.dwell or trial.units < trial.here.units:
        return None
    if trial.step + 1 < len(trial.plan.steps):
        following = trial.plan.steps[trial.step + 1]
        return Judgement(
            Turn.ADVANCE,
            f"no harm at {percent(trial.here.weight)} in {trial.units} requests; on to {percent(following.weight)}",
        )
    if next(trial.unproven(), None) is not None:
        return None
    return Judgement(
        Turn.CUTOVER,
        f"shown to be no worse by {trial.plan.margin:g} times at {percent(trial.here.weight)}; "
        f"on to {percent(TOTAL - trial.plan.holdback)}",
    )


_RULES: tuple[Callable[[State, Trial, Seen], Judgement | None], ...] = (
    _harm,
    _candidate_down,
    _live_down,
    _undecided,
    _blind,
    _suspicion,
    _wrong_split,
    _recovered,
    _ahead,
)


def _halt(state: State, into: State, reason: str) -> Judgement:
    return Judgement(Turn.STAY if state is into else Turn.HALT, reason, into)


def _evidence(trial: Trial, finding: Finding) -> str:
    return (
        f"{finding.said(trial.counted)}, "
        f"evidence {math.exp(min(finding.log_harm, 700)):.3g} of {math.exp(trial.needed(finding)):.3g}"
    )


def _progress(trial: Trial) -> str:
    where = percent(trial.weight)
    if trial.stage is Stage.BAKING:
        return f"baking at {where} for {trial.dwelt:.0f} of {trial.plan.bake:.0f} s"
    if trial.dwelt < trial.here.dwell:
        return f"at {where} for {trial.dwelt:.0f} of {trial.here.dwell:.0f} s"
    if trial.units < trial.here.units:
        return f"at {where}: {trial.units} of {trial.here.units} requests"
    missing = ", ".join(finding.guardrail.watched for finding in trial.unproven())
    return f"at {where}: not yet shown to be no worse: {missing}"
