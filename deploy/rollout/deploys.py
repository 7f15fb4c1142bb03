"""What a deploy makes of a deployment: a first version, a candidate, another in its place, or one that is wider. Pure.

Also where a candidate begins that is warm; what comes after that is conduct.py and, by hand, moves.py.
"""

from typing import Any

from contracts.errors import Conflict
from contracts.names import Color
from contracts.traffic import percent
from deploy.rollout.deployment import ON_TRIAL, STATE_OF, Deployment, Place, State, scaled
from deploy.rollout.events import Deploy, Order
from deploy.rollout.moves import (
    Decision,
    candidate_of,
    check_able,
    check_revision,
    live_of,
    move,
    promote,
    stay,
    with_reason,
)
from deploy.rollout.plan import DEFAULTS, Plan, Strategy
from deploy.rollout.trial import Stage, Trial


def deploy_first(d: Deployment, order: Order, now: float) -> Decision:
    check_revision(d, order)
    command = _deploy(order)
    place = Place(command.version, Color.BLUE, command.digest, command.replicas or 1, command.threads or 0)
    reason = f"version {place.version} is warming in {place.color}; it goes live when ready"
    return _start_warming(d, order, now, place, reason)


def deploy_next(d: Deployment, order: Order, now: float) -> Decision:
    command, live = _deploy(order), live_of(d)
    if command.version == live.version:
        return _scale_live(d, order, now)
    check_revision(d, order)
    _check_signature(d, command)
    # It may have to take all traffic on promotion, so it starts as wide as the live version is.
    replicas = command.replicas or live.replicas
    threads = live.threads if command.threads is None else command.threads
    kept = d.previous if d.previous is not None and d.previous.version == command.version else None
    place = Place(command.version, live.color.other, command.digest, replicas, threads)
    reason = f"version {place.version} is warming in {place.color} beside live version {live.version}"
    if d.previous is not None and kept is None:
        reason += f"; version {d.previous.version} gave up that place and can no longer be returned to at once"
    return _start_warming(d, order, now, place, reason)


def deploy_again(d: Deployment, order: Order, now: float) -> Decision:
    """Deploy while a candidate exists: the same one again, the live one wider, or a third one, which must wait unless
    it supersedes the candidate."""
    command, candidate = _deploy(order), candidate_of(d)
    if d.live is not None and command.version == d.live.version:
        return _scale_live(d, order, now)
    if command.version != candidate.version:
        return _instead(d, order, now)
    if d.state is State.CANARY and d.trial is None and command.strategy is Strategy.DIRECT:
        return promote(d, order, now)
    _check_threads(d, command, candidate)
    strategy = command.asked or d.strategy
    plan = command.plan or (d.plan if strategy is d.strategy else DEFAULTS.get(strategy))
    if (plan, strategy) != (d.plan, d.strategy) and d.state is not State.WARMING:
        return _otherwise(d, order, now, strategy, plan)
    wider = scaled(candidate, command.replicas or candidate.replicas)
    if (wider, strategy, plan) == (candidate, d.strategy, d.plan):
        return stay(d, f"version {candidate.version} already is the candidate")
    _check_tried(d, command, strategy)
    reason = f"version {candidate.version} is the candidate with {wider.replicas} workers, strategy {strategy}"
    to = {"candidate": wider, "strategy": strategy, "plan": plan}
    return move(d, now, "deploy", with_reason(reason, order), candidate.version, since=d.since, **to)


def _instead(d: Deployment, order: Order, now: float) -> Decision:
    """Another version than the candidate. Superseded, it loses its traffic and its workers in the same step, and the
    reconciler takes care that the traffic goes first."""
    command, candidate = _deploy(order), candidate_of(d)
    where = f"takes {percent(d.weight)}" if d.state in ON_TRIAL else "is warming"
    if not command.supersede:
        after = "promote or abort" if d.state in ON_TRIAL else "abort"
        raise Conflict(
            f"model {d.model}: version {candidate.version} is the candidate and {where}; "
            f"{after} it before deploying version {command.version}, or deploy that with --supersede"
        )
    decision = (deploy_first if d.live is None else deploy_next)(d, order, now)
    reason = f"version {candidate.version}, which {where}, was given up for another; {decision.deployment.reason}"
    return move(d, now, "supersede", reason, command.version, **_new_in(decision.deployment))


def _new_in(d: Deployment) -> dict[str, Any]:
    names = ("state", "candidate", "previous", "undo_until", "weight", "strategy", "plan", "trial")
    return {name: getattr(d, name) for name in names}


def _otherwise(d: Deployment, order: Order, now: float, strategy: Strategy, plan: Plan | None) -> Decision:
    """The warm candidate by another strategy or plan: from a hand's to evidence, or after it was only mirrored."""
    command, candidate = _deploy(order), candidate_of(d)
    by_hand = d.trial is None and plan is not None
    mirrored = d.trial is not None and d.trial.plan.strategy is Strategy.SHADOW and strategy is not Strategy.DIRECT
    if not by_hand and not mirrored:
        raise Conflict(
            f"model {d.model}: version {candidate.version} is on its way by strategy {d.strategy}; "
            "abort it before deploying it by another strategy or plan, or promote it"
        )
    check_revision(d, order)
    _check_tried(d, command, strategy)
    check_able(d, candidate, order.seen.candidate, order.seen.live, "begin its rollout")
    if plan is not None:
        deaths = order.seen.candidate.deaths
        return start(d, plan, now, deaths=deaths, because=f": {order.reason}" if order.reason else "")
    reason = f"version {candidate.version} is moved by hand from here on and takes 0 %"
    to: dict[str, Any] = {"state": State.CANARY, "strategy": strategy, "plan": None, "trial": None}
    return move(d, now, "deploy", with_reason(reason, order), candidate.version, **to)


def start(d: Deployment, plan: Plan, now: float, *, deaths: int, because: str = "") -> Decision:
    """A warm candidate takes the first step of its plan, or is mirrored before. `deaths` of its workers so far are
    not held against it."""
    candidate, trial = candidate_of(d), Trial.begin(plan, deaths)
    takes = f"takes {percent(trial.weight)}"
    if trial.stage is Stage.SHADOW:
        takes = f"is sent copies of {percent(plan.mirror)} of the requests"
    reason = f"version {candidate.version} is warm in {candidate.color} and {takes}{because}"
    to: dict[str, Any] = {"state": STATE_OF[trial.stage], "weight": trial.weight, "strategy": plan.strategy}
    return move(d, now, "start", reason, candidate.version, plan=plan, trial=trial, **to)


def _start_warming(d: Deployment, order: Order, now: float, place: Place, reason: str) -> Decision:
    # The first version of a model has nothing that it could be compared with.
    command = _deploy(order)
    strategy = command.asked or (Strategy.MANUAL if d.live is None else Strategy.CANARY)
    _check_tried(d, command, strategy)
    to: dict[str, Any] = {"state": State.WARMING, "candidate": place, "strategy": strategy}
    to |= {"previous": None, "undo_until": None, "weight": 0, "trial": None}
    plan = command.plan or DEFAULTS.get(strategy)
    return move(d, now, "deploy", with_reason(reason, order), place.version, plan=plan, **to)


def _scale_live(d: Deployment, order: Order, now: float) -> Decision:
    command, live = _deploy(order), live_of(d)
    _check_threads(d, command, live)
    if command.replicas is None or command.replicas == live.replicas:
        raise Conflict(
            f"model {d.model}: version {live.version} is already live with {live.replicas} workers; "
            "deploy another version, or this one with other replicas"
        )
    reason = f"version {live.version} stays live, now with {command.replicas} workers instead of {live.replicas}"
    wider = scaled(live, command.replicas)
    return move(d, now, "deploy", with_reason(reason, order), live.version, since=d.since, live=wider)


def _check_threads(d: Deployment, command: Deploy, place: Place) -> None:
    """A worker keeps its threads for life, and replacing all workers of a version at once would be an outage."""
    if command.threads is not None and command.threads != place.threads:
        said = f"{place.threads} threads" if place.threads else "threads chosen by its workers"
        raise Conflict(
            f"model {d.model}: version {place.version} is deployed with {said}, which cannot change while it serves; "
            "drain it first, or deploy another version with other threads"
        )


def _check_tried(d: Deployment, command: Deploy, strategy: Strategy) -> None:
    """What evidence rolled back once would be rolled back again, at the price of some more requests."""
    tried = command.digest in d.rolled_back and d.live is not None
    if tried and strategy is not Strategy.MANUAL and not command.retry:
        raise Conflict(
            f"model {d.model}: version {command.version} was rolled back by evidence before (teal history {d.model}); "
            "deploy it with --retry if something is different now, or with --strategy manual"
        )


def _check_signature(d: Deployment, command: Deploy) -> None:
    if command.problems and not command.override:
        raise Conflict(
            f"model {d.model}: callers of version {live_of(d).version} would notice version {command.version}: "
            f"{'; '.join(command.problems)}. Deploy it with --override if they are ready for it"
        )


def _deploy(order: Order) -> Deploy:
    if not isinstance(order.command, Deploy):
        raise TypeError(f"expected a Deploy, got {type(order.command).__name__}")
    return order.command
