"""A rollout by evidence as moves of its deployment: what a look at the world and what an operator make of it. Pure.

What follows from evidence is steering.py; here it becomes a state, a weight and a sentence. Operators may always
lower the candidate's exposure; raising it against missing evidence takes `override`, and against harm nothing does.
"""

from dataclasses import replace

from contracts.errors import Conflict, InvalidInput
from contracts.traffic import TOTAL, percent
from deploy.rollout.deployment import STATE_OF, Deployment, State
from deploy.rollout.events import Extend, Observation, Order, Plain, Weight
from deploy.rollout.moves import (
    Decision,
    candidate_of,
    check_able,
    check_revision,
    given_up,
    move,
    promoted,
    stay,
    units_of,
    with_reason,
)
from deploy.rollout.steering import Judgement, Seen, Turn, steer
from deploy.rollout.trial import Stage, Trial


def watch(d: Deployment, seen: Observation, now: float) -> Decision:
    """One tick."""
    candidate, there = candidate_of(d), seen.candidate
    looked = Seen(seen.seconds, seen.counted, seen.gap, seen.in_force, seen.live.ready, there.ready)
    trial, judgement = steer(d.state, trial_of(d), replace(looked, deaths=there.deaths, workers=candidate.replicas))
    seen_too = replace(d, trial=trial, reason=f"version {candidate.version}: {judgement.reason}")
    if judgement.turn is Turn.STAY:
        return Decision(seen_too, None, seen_too.reason)
    return replace(_turn(seen_too, judgement, now), because=judgement.because.value)


def _turn(d: Deployment, judgement: Judgement, now: float) -> Decision:
    candidate, trial, said = candidate_of(d), trial_of(d), d.reason
    match judgement.turn:
        case Turn.ADVANCE:
            return _at(d, trial.advanced(), now, "advance", said)
        case Turn.CUTOVER:
            return _at(d, trial.begun(Stage.BAKING, trial.step), now, "cutover", said)
        case Turn.GO_ON:
            return _at(d, trial, now, "go on", said)
        case Turn.PROMOTE:
            return promoted(d, now, "promote", said, "", undo_seconds=trial.plan.undo_window)
        case Turn.ROLLBACK:
            return given_up(d, now, "rollback", said, by_itself=True)
        case _:
            return move(d, now, str(judgement.state), said, candidate.version, state=judgement.state)


def _at(d: Deployment, trial: Trial, now: float, action: str, reason: str) -> Decision:
    """Traffic as the trial asks for it."""
    version = candidate_of(d).version
    return move(d, now, action, reason, version, state=STATE_OF[trial.stage], trial=trial, weight=trial.weight)


def pause(d: Deployment, order: Order, now: float) -> Decision:
    reason = f"version {candidate_of(d).version} stays at {percent(d.weight)}, paused; a rollback for harm stays armed"
    return move(d, now, "pause", with_reason(reason, order), candidate_of(d).version, state=State.PAUSED)


def resume(d: Deployment, order: Order, now: float) -> Decision:
    """On from a pause. With override also from what holds it up and may be meant: versions that differ without one
    being worse, or traffic that is divided by few callers' keys."""
    trial, version = trial_of(d), candidate_of(d).version
    check_revision(d, order)
    accepted = ""
    if _override(order) and (differing := trial.differing) is not None:
        watched = differing.guardrail.watched
        trial, accepted = replace(trial, accepted=(*trial.accepted, watched)), f", {watched} that differ accepted"
    elif _override(order) and d.state is State.HOLD and trial.wrongly_split:
        trial, accepted = replace(trial, uneven=True), ", uneven traffic accepted"
    elif d.state is not State.PAUSED:
        raise Conflict(f"model {d.model}: candidate {version} is not paused: {d.reason}; abort ends its rollout")
    if trial.weight > d.weight:  # an operator had left the candidate less
        _check_harmless(d, trial, order, "resume")
        check_able(d, candidate_of(d), order.seen.candidate, order.seen.live, "resume")
    reason = f"version {version} goes on at {percent(trial.weight)}{accepted}"
    following = trial if trial.weight == d.weight else trial.reweighed()
    return _at(d, following, now, "resume", with_reason(reason, order))


def extend(d: Deployment, order: Order, now: float) -> Decision:
    """More time. A rollout whose time was over goes on."""
    trial, more = trial_of(d), _seconds(order)
    plan = replace(trial.plan, deadline=max(trial.plan.deadline, trial.age) + more)
    longer = replace(trial, plan=plan, unseen=0.0, paused=0.0)
    reason = with_reason(f"version {candidate_of(d).version} has {more / 60:g} more minutes", order)
    if d.state is State.INCONCLUSIVE and trial.weight <= d.weight:
        return _at(d, longer, now, "extend", reason)
    if d.state is State.INCONCLUSIVE:
        reason += f"; it stays at {percent(d.weight)}, where an operator left it, until it is resumed"
        return move(d, now, "extend", reason, candidate_of(d).version, state=State.PAUSED, trial=longer)
    return move(d, now, "extend", reason, candidate_of(d).version, since=d.since, trial=longer)


def skip(d: Deployment, order: Order, now: float) -> Decision:
    """The next step now, whatever is left of this one."""
    check_revision(d, order)
    trial = trial_of(d)
    _check_harmless(d, trial, order, "skip a step")
    if trial.following is None:
        raise Conflict(f"model {d.model}: there is no step after {percent(d.weight)}; promote it instead")
    check_able(d, candidate_of(d), order.seen.candidate, order.seen.live, "skip a step")
    following = trial.advanced()
    reason = f"version {candidate_of(d).version} skips to {percent(following.weight)}"
    return _at(d, following, now, "skip", with_reason(reason, order))


def promote_now(d: Deployment, order: Order, now: float) -> Decision:
    check_revision(d, order)
    trial, candidate = trial_of(d), candidate_of(d)
    if (harmed := trial.harmed) is not None:
        raise Conflict(
            f"model {d.model}: {harmed.sentence(trial.counted, shown=True)}; version {candidate.version} is not "
            "promoted against harm, with override or without; abort gives it up"
        )
    missing = [finding.guardrail.watched.value for finding in trial.unproven()]
    if trial.differing is not None and not _override(order):
        raise Conflict(
            f"model {d.model}: {trial.differing.sentence(trial.counted, shown=True)}; promote version "
            f"{candidate.version} all the same with --override, or abort it"
        )
    if missing and trial.stage is not Stage.BAKING and not _override(order):
        raise Conflict(
            f"model {d.model}: version {candidate.version} is not yet shown to be no worse ({', '.join(missing)}); "
            "wait, or promote it all the same with --override"
        )
    check_able(d, candidate, order.seen.candidate, order.seen.live, "promote it")
    reason = f"version {candidate.version} is live, promoted by hand"
    if missing:
        reason += f" without evidence about {', '.join(missing)}"
    return promoted(d, now, "promote", reason, order.reason, undo_seconds=trial.plan.undo_window)


def weigh_by_hand(d: Deployment, order: Order, now: float) -> Decision:
    """An operator's own weight pauses the plan, up to the biggest share it would give by itself; less always goes."""
    trial, units = trial_of(d), units_of(order)
    if units == d.weight:
        return stay(d, f"version {candidate_of(d).version} already takes {percent(units)}")
    if units > d.weight:
        check_revision(d, order)
        if trial.stage is Stage.SHADOW:
            version = candidate_of(d).version
            raise Conflict(
                f"model {d.model}: candidate {version} was only mirrored yet; skip to its first step, or promote it"
            )
        _check_harmless(d, trial, order, "give it more traffic")
        check_able(d, candidate_of(d), order.seen.candidate, order.seen.live, "give it more traffic")
        most = TOTAL - trial.plan.holdback if trial.stage is Stage.BAKING else trial.plan.steps[-1].weight
        if units > most:
            raise Conflict(
                f"model {d.model}: {percent(units)} is more than its plan gives before promotion, {percent(most)}; "
                "promote it instead"
            )
    reason = f"version {candidate_of(d).version} takes {percent(units)} by hand and is paused"
    version, trial = candidate_of(d).version, trial.reweighed()
    said = with_reason(reason, order)
    return move(d, now, "weight", said, version, state=State.PAUSED, weight=units, trial=trial)


def trial_of(d: Deployment) -> Trial:
    if d.trial is None:
        raise AssertionError(f"{d.state} without a trial")
    return d.trial


def _check_harmless(d: Deployment, trial: Trial, order: Order, what: str) -> None:
    if (harmed := trial.harmed) is not None:
        raise Conflict(
            f"model {d.model}: {harmed.sentence(trial.counted, shown=True)}; nothing gives version "
            f"{candidate_of(d).version} more traffic against harm, abort gives it up"
        )
    suspected, differing = trial.suspected, trial.differing
    finding = suspected or differing
    if finding is not None and not _override(order):
        shown = suspected is None
        raise Conflict(
            f"model {d.model}: {finding.sentence(trial.counted, shown=shown)}; wait until that is over, abort version "
            f"{candidate_of(d).version}, or {what} all the same with --override"
        )


def _override(order: Order) -> bool:
    return isinstance(order.command, Plain | Weight) and order.command.override


def _seconds(order: Order) -> float:
    if not isinstance(order.command, Extend):
        raise TypeError(f"expected an Extend, got {type(order.command).__name__}")
    if not 0 < order.command.seconds <= 7 * 24 * 3600:
        raise InvalidInput("a deadline is extended by more than nothing and at most a week")
    return order.command.seconds
