"""One tick of a rollout by evidence: what was seen goes in, and what follows from it comes out. Pure.

The order is the policy. Harm first, from every state and whoever has paused it; then a candidate that cannot answer;
then what waits for an operator; then everything that makes one stand still, because not knowing is an answer; and only
then a step ahead.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from contracts.traffic import TOTAL, percent
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import State
from deploy.rollout.finding import Finding
from deploy.rollout.forecast import said as spoken
from deploy.rollout.plan import OnBlind, OnHarm, Strategy
from deploy.rollout.trial import Stage, Trial


@dataclass(frozen=True)
class Seen:
    """One look at the world.

    seconds    since the look before, on this process' monotonic clock; 0 for its first one
    counted    new counts, None when there are none; why there are none, or not all, is the `gap`
    in_force   Envoy acknowledged the weights that are recorded
    live, candidate    ready workers of either version
    deaths     of the candidate's workers, as its fleet has counted them; `workers` is how many it should have
    """

    seconds: float
    counted: Counted | None
    gap: str = "no evidence yet"
    in_force: bool = True
    live: int = 1
    candidate: int = 1
    deaths: int = 0
    workers: int = 1

    @property
    def whole(self) -> bool:
        """Whether there are new counts and nothing is missing of them."""
        return self.counted is not None and not self.counted.partial


class Turn(Enum):
    """What follows from a look."""

    STAY = auto()
    ADVANCE = auto()  # the next step
    CUTOVER = auto()  # all traffic but the holdback
    PROMOTE = auto()
    ROLLBACK = auto()
    HALT = auto()  # stand still in the state that is named
    GO_ON = auto()  # what made it stand still is over


class Because(StrEnum):
    """Which rule decided: the reason as a word that can be counted. The sentence has more."""

    HARM = "harm"
    CANDIDATE_DOWN = "candidate_down"
    TIME_OVER = "time_over"
    LIVE_DOWN = "live_down"
    LIVE_SICK = "live_sick"
    NO_EVIDENCE = "no_evidence"
    SUSPICION = "suspicion"
    COMPARED = "compared"
    DIFFERENCE = "difference"
    WRONG_SPLIT = "wrong_split"
    RECOVERED = "recovered"
    PLAN = "plan"


class Judgement(NamedTuple):
    turn: Turn
    reason: str
    state: State | None = None
    because: Because = Because.PLAN


def steer(state: State, trial: Trial, seen: Seen) -> tuple[Trial, Judgement]:
    """The trial with what was seen taken in, and what follows. The first look of a process never moves ahead."""
    trial = _take_in(state, trial, seen)
    for because, rule in _RULES.items():
        judgement = rule(state, trial, seen)
        if judgement is not None:
            return trial, judgement._replace(because=because)
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
        deaths=min(trial.deaths, seen.deaths),  # a new control plane counts from nothing
    )
    return trial if seen.counted is None else trial.saw(seen.counted, in_force=moves)


_STANDING = frozenset({State.PAUSED, State.BLIND, State.INCONCLUSIVE})
_FOR_AN_OPERATOR = frozenset({State.PAUSED, State.INCONCLUSIVE})


def _harm(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    finding = trial.harmed
    if finding is None:
        return None
    said = _evidence(trial, finding, shown=True)
    if trial.plan.on_harm_of(finding.guardrail) is OnHarm.ROLLBACK:
        if seen.live == 0:
            return _halt(state, State.HOLD, f"{said}; the live version has no ready worker to go back to")
        return Judgement(Turn.ROLLBACK, said)
    return _halt(state, State.HOLD, f"{said}; the plan freezes on harm")


def _candidate_down(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    """A dead worker is replaced within a second, which may be between two ticks, so deaths are counted as well."""
    died = seen.deaths - trial.deaths
    if seen.candidate > 0 and died < seen.workers:
        return None
    if seen.live == 0:
        return _halt(state, State.HOLD, "neither version has a ready worker: nothing would be gained by moving")
    if not seen.candidate:
        return Judgement(Turn.ROLLBACK, "the candidate has no ready worker")
    workers = "the candidate's only worker" if seen.workers == 1 else f"one of the candidate's {seen.workers} workers"
    return Judgement(Turn.ROLLBACK, f"{workers} died {'once' if died == 1 else f'{died} times'}")


def _undecided(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    if state is State.INCONCLUSIVE:
        return Judgement(
            Turn.STAY, f"{_standing(trial, seen)}; an operator decides: extend, abort, or promote with override"
        )
    if state is State.PAUSED:
        if trial.paused < trial.plan.pause_most:
            return Judgement(Turn.STAY, "paused by an operator; a rollback for harm stays armed")
        return Judgement(Turn.HALT, f"paused for {spoken(trial.plan.pause_most)}", State.INCONCLUSIVE)
    if trial.age < trial.plan.deadline or _verdict(trial) is not None:
        return None
    return Judgement(
        Turn.HALT, f"no decision within {spoken(trial.plan.deadline)}: {_standing(trial, seen)}", State.INCONCLUSIVE
    )


def _live_down(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del trial
    if seen.live > 0:
        return None
    return _halt(
        state,
        State.HOLD,
        "the live version has no ready worker, so there is nothing to compare with: an operator decides",
    )


def _live_sick(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    """A sick version is no measure, and which one is to serve then is no question of statistics."""
    del seen
    live, candidate = trial.live, trial.candidate
    if not live.sick:
        return None
    if candidate.sick:
        said = (
            f"both versions fail: the live one {live.said}, the candidate {candidate.said}. What both share speaks "
            "against neither of them; nothing moves until it is over"
        )
    else:
        said = (
            f"the live version fails {live.said}, the candidate {candidate.said}: nothing moves by itself while the "
            "live version is sick; promote the candidate by hand, with override, or wait"
        )
    return _halt(state, State.HOLD, said)


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
    return None if finding is None else _halt(state, State.HOLD, _evidence(trial, finding, shown=False))


def _compared(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    """A candidate that only mirrors is never moved by itself."""
    del seen
    verdict = _verdict(trial)
    if state is not State.SHADOW or verdict is None:
        return None
    return Judgement(
        Turn.STAY,
        f"{verdict}. It goes on being compared until an operator deploys it by another strategy, promotes "
        "it or aborts it",
    )


def _difference(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del seen
    finding = trial.differing
    if finding is None:
        return None
    return _halt(
        state,
        State.HOLD,
        f"{_evidence(trial, finding, shown=True)}; that may be meant: resume with override accepts it, abort gives the "
        "candidate up",
    )


def _wrong_split(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del seen
    if not trial.wrongly_split:
        return None
    found, rest = trial.split.candidate.units, trial.split.live.units
    return _halt(
        state,
        State.HOLD,
        f"the candidate finished {found} of {found + rest} requests where {percent(trial.weight)} is in force: the "
        "split is wrong, it refuses what callers send, or few callers with a key make up much of the traffic; resume "
        "with override accepts it",
    )


def _recovered(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    """Nothing above holds it up any more."""
    if state not in (State.HOLD, State.BLIND) or not seen.whole:
        return None
    return Judgement(Turn.GO_ON, f"what held it up is over; {_progress(trial)}")


def _ahead(state: State, trial: Trial, seen: Seen) -> Judgement | None:
    del state
    if not seen.in_force or not seen.whole or seen.seconds == 0 or trial.plan.strategy is Strategy.SHADOW:
        return None
    if trial.dwelt < trial.dwell or trial.units < trial.units_needed:
        return None
    if trial.stage is Stage.BAKING:
        return Judgement(Turn.PROMOTE, f"no harm in {trial.plan.bake:g} s beside the version before it")
    if trial.following is not None:
        return Judgement(
            Turn.ADVANCE,
            f"no harm {_where(trial)} in {trial.units} requests; on to {percent(trial.following.weight)}",
        )
    if next(trial.unproven(), None) is not None:
        return None
    return Judgement(
        Turn.CUTOVER,
        f"shown to be no worse by {trial.plan.margin:g} times {_where(trial)}; "
        f"on to {percent(TOTAL - trial.plan.holdback)}",
    )


_Rule = Callable[[State, Trial, Seen], Judgement | None]
_HOLDING_UP: Mapping[Because, _Rule] = {
    Because.LIVE_DOWN: _live_down,
    Because.LIVE_SICK: _live_sick,
    Because.NO_EVIDENCE: _blind,
    Because.SUSPICION: _suspicion,
    Because.COMPARED: _compared,
    Because.DIFFERENCE: _difference,
    Because.WRONG_SPLIT: _wrong_split,
}
_RULES: Mapping[Because, _Rule] = {  # asked in this order
    Because.HARM: _harm,
    Because.CANDIDATE_DOWN: _candidate_down,
    Because.TIME_OVER: _undecided,
    **_HOLDING_UP,
    Because.RECOVERED: _recovered,
    Because.PLAN: _ahead,
}


def _halt(state: State, into: State, reason: str) -> Judgement:
    """Stand still. What already waits for an operator goes on waiting, and a mirrored candidate harms nobody: looking
    on is how one finds out."""
    if state is into or state in _FOR_AN_OPERATOR or state is State.SHADOW:
        return Judgement(Turn.STAY, reason, state)
    return Judgement(Turn.HALT, reason, into)


def _verdict(trial: Trial) -> str | None:
    """What the comparison of a candidate that never serves came to, None while it goes on."""
    if trial.plan.strategy is not Strategy.SHADOW:
        return None
    if trial.differing is not None:
        return _evidence(trial, trial.differing, shown=True)
    if trial.dwelt < trial.dwell or trial.units < trial.units_needed or next(trial.unproven(), None) is not None:
        return None
    said = "; ".join(f"{f.guardrail.watched}: {f.said(trial.counted)}" for f in trial.findings if f.guardrail.required)
    return f"shown alike by {trial.units} mirrored requests: {said}"


def _evidence(trial: Trial, finding: Finding, *, shown: bool) -> str:
    odds, needed = finding.log_harm, math.exp(trial.needed(finding))
    so_far = "over a million" if odds > math.log(1e6) else f"{math.exp(odds):,.0f}"
    return f"{finding.sentence(trial.counted, shown=shown)}; odds {so_far} to 1, decided at {needed:,.0f} to 1"


def _standing(trial: Trial, seen: Seen) -> str:
    """Why there is no decision: what stands in the way, or what is missing."""
    judgements = (rule(State.CANARY, trial, seen) for rule in _HOLDING_UP.values())
    return next((judgement.reason for judgement in judgements if judgement is not None), _progress(trial))


def _where(trial: Trial) -> str:
    if trial.stage is Stage.SHADOW:
        return f"with copies of {percent(trial.plan.mirror)}"
    return f"at {percent(trial.weight)}"


def _progress(trial: Trial) -> str:
    where = _where(trial)
    if trial.dwelt < trial.dwell:
        baking = "baking " if trial.stage is Stage.BAKING else ""
        return f"{baking}{where} for {trial.dwelt:.0f} of {trial.dwell:.0f} s"
    if trial.units < trial.units_needed:
        return f"{where}: {trial.units} of {trial.units_needed} requests"
    if missing := [finding.guardrail.watched.value for finding in trial.unproven()]:
        return f"{where}: not yet shown to be no worse: {', '.join(missing)}"
    return f"{where}: waiting for the next look"
