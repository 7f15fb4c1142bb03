"""The rules of a deployment: `decide` says what a command or an observation makes of it, and why.

Pure: no clock, no I/O.

TABLE is the one table of legal moves: every state answers every verb, with a move, with "already so", or with a
refusal that names the next step. What reduces a candidate's exposure is never refused for a stale revision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contracts.errors import Conflict, InvalidInput
from contracts.names import Color
from contracts.traffic import TOTAL, percent
from deploy.rollout.deployment import Deployment, Place, State, Strategy, scaled
from deploy.rollout.events import Deploy, Drain, Health, Observation, Order, Verb, Weight

UNDO_SECONDS = 24 * 3600.0  # how long the version before a promotion stays warm
WARMING_SECONDS = 15 * 60.0  # after that a candidate that is not ready is given up
PATIENCE_SECONDS = 60.0  # after that a version is used with the workers it has, if it has any


@dataclass(frozen=True)
class Decision:
    """What becomes of a deployment. `action` is None when nothing changes; then `deployment` is the one given.
    `version` is the version the action is about."""

    deployment: Deployment
    action: str | None
    reason: str
    version: int | None = None


Rule = Callable[[Deployment, Order, float], Decision]


def decide(deployment: Deployment, happened: Order | Observation, now: float) -> Decision:
    """Answer a command or an observation; `now` is wall seconds. Raises Conflict or InvalidInput with the next step
    when a command does not fit the state; observations never raise."""
    if isinstance(happened, Observation):
        return _watch(deployment, happened, now)
    return TABLE[deployment.state][happened.command.verb](deployment, happened, now)


# ---- observations -----------------------------------------------------------------------------------------------


def _watch(d: Deployment, seen: Observation, now: float) -> Decision:
    if d.state is State.WARMING:
        return _watch_warming(d, seen, now)
    if d.undo_until is not None and now >= d.undo_until and d.previous is not None and d.live is not None:
        reason = (
            f"version {d.live.version} is live; the undo window is over and version {d.previous.version} was released"
        )
        return _move(d, now, "release", reason, d.previous.version, state=State.LIVE, previous=None, undo_until=None)
    return _stay(d, d.reason)


def _watch_warming(d: Deployment, seen: Observation, now: float) -> Decision:
    place, health = _candidate(d), seen.candidate
    enough = place.replicas if seen.warming_seconds < PATIENCE_SECONDS else 1
    if health.broken is not None:
        return _failed(d, now, health.broken)
    if health.ready >= enough:
        return _warm(d, now)
    if seen.warming_seconds >= WARMING_SECONDS:
        return _failed(d, now, f"not ready after {WARMING_SECONDS / 60:g} minutes: {health.waiting_for}")
    return _stay(d, d.reason)


def _warm(d: Deployment, now: float) -> Decision:
    place = _candidate(d)
    if d.live is None:
        reason = f"version {place.version} is live in {place.color}: it is the first version and is warm"
        return _move(d, now, "live", reason, place.version, state=State.LIVE, live=place, candidate=None)
    if d.strategy is Strategy.DIRECT:
        return _promoted(d, now, "live", f"version {place.version} is warm and live: its strategy is direct", "")
    reason = (
        f"version {place.version} is warm in {place.color} and takes 0 %: waiting for an operator's weight or promote"
    )
    return _move(d, now, "warm", reason, place.version, state=State.CANARY)


def _failed(d: Deployment, now: float, why: str) -> Decision:
    place = _candidate(d)
    rest = "the model is not served" if d.live is None else f"version {d.live.version} stays live"
    reason = f"version {place.version} did not become ready, {rest}: {why}"
    return _move(d, now, "fail", reason, place.version, state=State.FAILED, candidate=None)


# ---- commands ---------------------------------------------------------------------------------------------------


def _deploy_first(d: Deployment, order: Order, now: float) -> Decision:
    _check_revision(d, order)
    command = _deploy(order)
    place = Place(command.version, Color.BLUE, command.digest, command.replicas or 1)
    return _start_warming(
        d, order, now, place, f"version {place.version} is warming in {place.color}; it goes live when ready"
    )


def _deploy_next(d: Deployment, order: Order, now: float) -> Decision:
    command, live = _deploy(order), _live(d)
    if command.version == live.version:
        return _scale_live(d, order, now)
    _check_revision(d, order)
    # It may have to take all traffic on promotion, so it starts as wide as the live version is.
    replicas = command.replicas or live.replicas
    kept = d.previous if d.previous is not None and d.previous.version == command.version else None
    place = Place(command.version, live.color.other, command.digest, replicas)
    reason = f"version {place.version} is warming in {place.color} beside live version {live.version}"
    if d.previous is not None and kept is None:
        reason += f"; version {d.previous.version} gave up that place and can no longer be returned to at once"
    return _start_warming(d, order, now, place, reason)


def _deploy_again(d: Deployment, order: Order, now: float) -> Decision:
    """Deploy while a candidate exists: the same one again, the live one wider, or a third one, which must wait."""
    command, candidate = _deploy(order), _candidate(d)
    if d.live is not None and command.version == d.live.version:
        return _scale_live(d, order, now)
    if command.version != candidate.version:
        where = f"takes {percent(d.weight)}" if d.state is State.CANARY else "is warming"
        after = "promote or abort" if d.state is State.CANARY else "abort"
        raise Conflict(
            f"model {d.model}: version {candidate.version} is the candidate and {where}; "
            f"{after} it before deploying version {command.version}"
        )
    if d.state is State.CANARY and command.strategy is Strategy.DIRECT:
        return _promote(d, order, now)
    wider = scaled(candidate, command.replicas or candidate.replicas)
    strategy = command.strategy or d.strategy
    if (wider, strategy) == (candidate, d.strategy):
        return _stay(d, f"version {candidate.version} already is the candidate")
    reason = f"version {candidate.version} is the candidate with {wider.replicas} workers, strategy {strategy}"
    return _move(
        d, now, "deploy", _with(reason, order), candidate.version, since=d.since, candidate=wider, strategy=strategy
    )


def _scale_live(d: Deployment, order: Order, now: float) -> Decision:
    command, live = _deploy(order), _live(d)
    if command.replicas is None or command.replicas == live.replicas:
        raise Conflict(
            f"model {d.model}: version {live.version} is already live with {live.replicas} workers; "
            "deploy another version, or this one with other replicas"
        )
    reason = f"version {live.version} stays live, now with {command.replicas} workers instead of {live.replicas}"
    return _move(
        d, now, "deploy", _with(reason, order), live.version, since=d.since, live=scaled(live, command.replicas)
    )


def _start_warming(d: Deployment, order: Order, now: float, place: Place, reason: str) -> Decision:
    return _move(
        d,
        now,
        "deploy",
        _with(reason, order),
        place.version,
        state=State.WARMING,
        candidate=place,
        previous=None,
        undo_until=None,
        weight=0,
        strategy=_deploy(order).strategy or Strategy.MANUAL,
    )


def _weigh(d: Deployment, order: Order, now: float) -> Decision:
    units, candidate, live = _units(order), _candidate(d), _live(d)
    if units == d.weight:
        return _stay(d, f"version {candidate.version} already takes {percent(units)}")
    if units > d.weight:
        _check_revision(d, order)
        _check_able(d, candidate, order.seen.candidate, order.seen.live, "give it more traffic")
    reason = (
        f"version {candidate.version} ({candidate.color}) takes {percent(units)}, "
        f"version {live.version} ({live.color}) {percent(TOTAL - units)}"
    )
    return _move(d, now, "weight", _with(reason, order), candidate.version, weight=units)


def _promote(d: Deployment, order: Order, now: float) -> Decision:
    _check_revision(d, order)
    candidate, live = _candidate(d), _live(d)
    _check_able(d, candidate, order.seen.candidate, order.seen.live, "promote it")
    reason = f"version {candidate.version} is live; version {live.version} stays warm in {live.color} for {_hours()} h"
    return _promoted(d, now, "promote", reason, order.reason)


def _promote_again(d: Deployment, order: Order, now: float) -> Decision:
    """After an undo the version rolled away from is still warm; promoting goes forward to it again."""
    _check_revision(d, order)
    return _swap(d, order, now, State.PROMOTED, "promote")


def _promoted(d: Deployment, now: float, action: str, reason: str, because: str) -> Decision:
    candidate = _candidate(d)
    return _move(
        d,
        now,
        action,
        f"{reason}: {because}" if because else reason,
        candidate.version,
        state=State.PROMOTED,
        live=candidate,
        previous=_live(d),
        candidate=None,
        weight=0,
        undo_until=now + UNDO_SECONDS,
    )


def _abort(d: Deployment, order: Order, now: float) -> Decision:
    candidate, verb = _candidate(d), order.command.verb.value
    if d.live is None:
        reason = f"version {candidate.version} was given up while warming; the model is not served"
        return _move(d, now, verb, _with(reason, order), candidate.version, state=State.ABSENT, candidate=None)
    had = f"took {percent(d.weight)}" if d.state is State.CANARY else "was warming"
    reason = f"version {d.live.version} has all traffic again; candidate {candidate.version} {had} and was given up"
    return _move(
        d, now, verb, _with(reason, order), candidate.version, state=State.ROLLED_BACK, candidate=None, weight=0
    )


def _undo(d: Deployment, order: Order, now: float) -> Decision:
    return _swap(d, order, now, State.UNDONE, order.command.verb.value)


def _swap(d: Deployment, order: Order, now: float, state: State, action: str) -> Decision:
    """Live and previous change roles: one weight change onto a version that is still warm."""
    live, previous = _live(d), _previous(d)
    _check_able(d, previous, order.seen.previous, order.seen.live, "return to it")
    reason = (
        f"version {previous.version} is live again; version {live.version} stays warm without traffic for {_hours()} h"
    )
    return _move(
        d,
        now,
        action,
        _with(reason, order),
        previous.version,
        state=state,
        live=previous,
        previous=live,
        undo_until=now + UNDO_SECONDS,
    )


def _drain(d: Deployment, order: Order, now: float) -> Decision:
    version = order.command.version if isinstance(order.command, Drain) else None
    if version is None:
        return _drain_all(d, order, now)
    if d.candidate is not None and d.candidate.version == version:
        return _abort(d, order, now)
    if d.previous is not None and d.previous.version == version:
        reason = f"version {version} was released before the undo window was over; version {_live(d).version} is live"
        return _move(d, now, "drain", _with(reason, order), version, state=State.LIVE, previous=None, undo_until=None)
    if d.live is not None and d.live.version == version:
        raise Conflict(
            f"model {d.model}: version {version} is live; deploy and promote another version first, "
            "or drain the model without naming a version to stop serving it"
        )
    return _stay(d, f"version {version} is not deployed")


def _drain_all(d: Deployment, order: Order, now: float) -> Decision:
    nothing = {"live": None, "candidate": None, "previous": None, "weight": 0, "undo_until": None}
    return _move(d, now, "drain", _with("the model is no longer served", order), None, state=State.ABSENT, **nothing)


def _already(d: Deployment, _order: Order, _now: float) -> Decision:
    return _stay(d, d.reason)


def _refuse(sentence: str) -> Rule:
    def refused(d: Deployment, order: Order, _now: float) -> Decision:
        facts = {
            "model": d.model,
            "live": d.live.version if d.live else "none",
            "candidate": d.candidate.version if d.candidate else "none",
            "previous": d.previous.version if d.previous else "none",
            "verb": order.command.verb.value,
        }
        raise Conflict(f"model {d.model}: " + sentence.format_map(facts))

    return refused


_NOT_SERVED = _refuse("nothing is deployed; deploy a version first: teal deploy {model}")
_NO_CANDIDATE = _refuse(
    "there is no candidate to {verb}; live is version {live}. Deploy another one: teal deploy {model}"
)
_STILL_WARMING = _refuse("version {candidate} is still warming; repeat when it is ready, or abort it")
_NOTHING_BEFORE = _refuse(
    "there is nothing to {verb}: version {live} is live and no other version is warm. "
    "Bring one back with: teal deploy {model} VERSION"
)
_NOT_PROMOTED = _refuse("candidate {candidate} was not promoted, so there is nothing to undo; abort gives it up")
_BY_HAND = _refuse(
    "its rollout is moved by hand and does nothing between commands, so there is nothing to {verb}; "
    "weight, promote and abort move it"
)
_ROLLED_AWAY = _refuse(
    "version {previous} was rolled back and takes no traffic. Make it the candidate again with: "
    "teal deploy {model} {previous}, or promote it at once"
)

_BESIDE_LIVE: dict[Verb, Rule] = {
    Verb.DEPLOY: _deploy_next,
    Verb.WEIGHT: _NO_CANDIDATE,
    Verb.PROMOTE: _NO_CANDIDATE,
    Verb.ABORT: _already,  # giving up a candidate that is gone is done already
    Verb.ROLLBACK: _NOTHING_BEFORE,
    Verb.UNDO: _NOTHING_BEFORE,
    Verb.DRAIN: _drain,
    Verb.PAUSE: _BY_HAND,
    Verb.RESUME: _BY_HAND,
}
_UNSERVED: dict[Verb, Rule] = dict.fromkeys(Verb, _NOT_SERVED) | {
    Verb.DEPLOY: _deploy_first,
    Verb.ABORT: _already,
    Verb.DRAIN: _already,
}
# FAILED holds two situations: the first version failed, or a later one beside a live version did.
_AFTER_FAILURE: Mapping[Verb, tuple[Rule, Rule]] = {
    verb: (_UNSERVED[verb], rule)
    for verb, rule in (_BESIDE_LIVE | {Verb.ROLLBACK: _already, Verb.DRAIN: _drain}).items()
}


def _after_failure(verb: Verb) -> Rule:
    unserved, beside_live = _AFTER_FAILURE[verb]
    return lambda d, order, now: (unserved if d.live is None else beside_live)(d, order, now)


TABLE: Mapping[State, Mapping[Verb, Rule]] = {
    State.ABSENT: _UNSERVED,
    State.WARMING: {
        Verb.DEPLOY: _deploy_again,
        Verb.WEIGHT: _STILL_WARMING,
        Verb.PROMOTE: _STILL_WARMING,
        Verb.ABORT: _abort,
        Verb.ROLLBACK: _abort,
        Verb.UNDO: _NOT_PROMOTED,
        Verb.DRAIN: _drain,
        Verb.PAUSE: _BY_HAND,
        Verb.RESUME: _BY_HAND,
    },
    State.CANARY: {
        Verb.DEPLOY: _deploy_again,
        Verb.WEIGHT: _weigh,
        Verb.PROMOTE: _promote,
        Verb.ABORT: _abort,
        Verb.ROLLBACK: _abort,
        Verb.UNDO: _NOT_PROMOTED,
        Verb.DRAIN: _drain,
        Verb.PAUSE: _BY_HAND,
        Verb.RESUME: _BY_HAND,
    },
    State.PROMOTED: dict(_BESIDE_LIVE)
    | {
        Verb.PROMOTE: _already,
        # The operator who aborts a moment after a promotion wants the version before it back.
        Verb.ABORT: _undo,
        Verb.ROLLBACK: _undo,
        Verb.UNDO: _undo,
    },
    State.LIVE: _BESIDE_LIVE,
    State.ROLLED_BACK: dict(_BESIDE_LIVE) | {Verb.ROLLBACK: _already},
    State.UNDONE: dict(_BESIDE_LIVE)
    | {
        Verb.WEIGHT: _ROLLED_AWAY,
        Verb.PROMOTE: _promote_again,
        # A repeated rollback must never send traffic forward onto the version just rolled away from.
        Verb.ROLLBACK: _already,
        Verb.UNDO: _already,
    },
    State.FAILED: {verb: _after_failure(verb) for verb in Verb},
}


# ---- pieces -----------------------------------------------------------------------------------------------------


def _move(
    d: Deployment, now: float, action: str, reason: str, version: int | None, *, since: float | None = None, **to: Any
) -> Decision:
    """The one place where a deployment becomes its successor."""
    entered = now if since is None else since
    return Decision(replace(d, revision=d.revision + 1, reason=reason, since=entered, **to), action, reason, version)


def _stay(d: Deployment, reason: str) -> Decision:
    return Decision(d, None, reason)


def _check_revision(d: Deployment, order: Order) -> None:
    if order.expected_revision is not None and order.expected_revision != d.revision:
        raise Conflict(
            f"model {d.model} is at revision {d.revision}, not {order.expected_revision}: {d.reason}. "
            f"Look at its status and repeat the {order.command.verb.value} if it is still right"
        )


def _check_able(d: Deployment, target: Place, there: Health, today: Health, what: str) -> None:
    """Never move traffic from a version that answers onto one that cannot. Between two dead ones nothing is lost."""
    if there.ready == 0 and today.ready > 0:
        raise Conflict(
            f"model {d.model}: version {target.version} has no ready worker now ({there.waiting_for}), so traffic "
            f"moved there would fail; {what} when it is ready again"
        )


def _with(reason: str, order: Order) -> str:
    return f"{reason}: {order.reason}" if order.reason else reason


def _hours() -> str:
    return f"{UNDO_SECONDS / 3600:g}"


def _live(d: Deployment) -> Place:
    return _there(d, d.live, "live version")


def _candidate(d: Deployment) -> Place:
    return _there(d, d.candidate, "candidate")


def _previous(d: Deployment) -> Place:
    return _there(d, d.previous, "previous version")


def _there(d: Deployment, place: Place | None, role: str) -> Place:
    if place is None:  # ROLES_OF rules this out for every state whose rules ask
        raise AssertionError(f"{d.state} without a {role}")
    return place


def _deploy(order: Order) -> Deploy:
    if not isinstance(order.command, Deploy):
        raise TypeError(f"expected a Deploy, got {type(order.command).__name__}")
    return order.command


def _units(order: Order) -> int:
    if not isinstance(order.command, Weight):
        raise TypeError(f"expected a Weight, got {type(order.command).__name__}")
    if not 0 <= order.command.units <= TOTAL:
        raise InvalidInput(f"weight {percent(order.command.units)} is out of range: expected 0 to 100 %")
    return order.command.units
