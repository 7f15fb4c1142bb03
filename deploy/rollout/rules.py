"""The rules of a deployment: `decide` says what a command or an observation makes of it, and why.

Pure: no clock, no I/O. TABLE is the one table of legal moves: every state answers every verb, with a move, with
"already so", or with a refusal that names the next step. The moves themselves are moves.py.
"""

from collections.abc import Mapping

from deploy.rollout.conduct import extend, pause, promote_now, resume, skip, watch, weigh_by_hand
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.deploys import deploy_again, deploy_first, deploy_next, start
from deploy.rollout.events import Observation, Order, Verb
from deploy.rollout.moves import (
    Decision,
    Rule,
    abort,
    already,
    candidate_of,
    drain,
    move,
    promote,
    promote_again,
    promoted,
    refuse,
    stay,
    undo,
    weigh,
)
from deploy.rollout.plan import Strategy

WARMING_SECONDS = 15 * 60.0  # after that a candidate that is not ready is given up
PATIENCE_SECONDS = 60.0  # after that a version is used with the workers it has, if it has any


def decide(deployment: Deployment, happened: Order | Observation, now: float) -> Decision:
    """Answer a command or an observation; `now` is wall seconds. Raises Conflict or InvalidInput with the next step
    when a command does not fit the state; observations never raise."""
    if isinstance(happened, Observation):
        return _watch(deployment, happened, now)
    return TABLE[deployment.state][happened.command.verb](deployment, happened, now)


def _watch(d: Deployment, seen: Observation, now: float) -> Decision:
    if d.state is State.WARMING:
        return _watch_warming(d, seen, now)
    if d.trial is not None:
        return watch(d, seen, now)
    if d.undo_until is not None and now >= d.undo_until and d.previous is not None and d.live is not None:
        reason = (
            f"version {d.live.version} is live; the undo window is over and version {d.previous.version} was released"
        )
        return move(d, now, "release", reason, d.previous.version, state=State.LIVE, previous=None, undo_until=None)
    return stay(d, d.reason)


def _watch_warming(d: Deployment, seen: Observation, now: float) -> Decision:
    place, health = candidate_of(d), seen.candidate
    enough = place.replicas if seen.warming_seconds < PATIENCE_SECONDS else 1
    if health.broken is not None:
        return _failed(d, now, health.broken)
    if health.ready >= enough:
        return _warm(d, seen, now)
    if seen.warming_seconds >= WARMING_SECONDS:
        return _failed(d, now, f"not ready after {WARMING_SECONDS / 60:g} minutes: {health.waiting_for}")
    return stay(d, d.reason)


def _warm(d: Deployment, seen: Observation, now: float) -> Decision:
    place = candidate_of(d)
    if d.live is None:
        reason = f"version {place.version} is live in {place.color}: it is the first version and is warm"
        return move(d, now, "live", reason, place.version, state=State.LIVE, live=place, candidate=None)
    if d.strategy is Strategy.DIRECT:
        return promoted(d, now, "live", f"version {place.version} is warm and live: its strategy is direct", "")
    if d.plan is not None:
        return start(d, d.plan, now, deaths=seen.candidate.deaths)
    reason = (
        f"version {place.version} is warm in {place.color} and takes 0 %: waiting for an operator's weight or promote"
    )
    return move(d, now, "warm", reason, place.version, state=State.CANARY)


def _failed(d: Deployment, now: float, why: str) -> Decision:
    place = candidate_of(d)
    rest = "the model is not served" if d.live is None else f"version {d.live.version} stays live"
    reason = f"version {place.version} did not become ready, {rest}: {why}"
    return move(d, now, "fail", reason, place.version, state=State.FAILED, candidate=None)


def _by(tried: Rule, hand: Rule) -> Rule:
    """What CANARY answers depends on whether evidence or a hand moves the candidate."""
    return lambda d, order, now: (hand if d.trial is None else tried)(d, order, now)


_NOT_SERVED = refuse("nothing is deployed; deploy a version first: teal deploy {model}")
_NO_CANDIDATE = refuse(
    "there is no candidate to {verb}; live is version {live}. Deploy another one: teal deploy {model}"
)
_STILL_WARMING = refuse("version {candidate} is still warming; repeat when it is ready, or abort it")
_NOTHING_BEFORE = refuse(
    "there is nothing to {verb}: version {live} is live and no other version is warm. "
    "Bring one back with: teal deploy {model} VERSION"
)
_NOT_PROMOTED = refuse("candidate {candidate} was not promoted, so there is nothing to undo; abort gives it up")
_BY_HAND = refuse(
    "its rollout is moved by hand and does nothing between commands, so there is nothing to {verb}; "
    "weight, promote and abort move it"
)
_NOT_PAUSED = refuse("candidate {candidate} is not paused; its rollout goes on by itself, and abort ends it")
_MIRRORED = refuse(
    "candidate {candidate} is sent copies of requests and answers nobody yet; skip to its first step, or promote it"
)
_OVERDUE = refuse("time is over for candidate {candidate}: extend it, abort it, or promote it with --override")
_ROLLED_AWAY = refuse(
    "version {previous} was rolled back and takes no traffic. Make it the candidate again with: "
    "teal deploy {model} {previous}, or promote it at once"
)

_BESIDE_LIVE: dict[Verb, Rule] = {
    Verb.DEPLOY: deploy_next,
    Verb.WEIGHT: _NO_CANDIDATE,
    Verb.PROMOTE: _NO_CANDIDATE,
    Verb.ABORT: already,  # giving up a candidate that is gone is done already
    Verb.ROLLBACK: _NOTHING_BEFORE,
    Verb.UNDO: _NOTHING_BEFORE,
    Verb.DRAIN: drain,
    Verb.PAUSE: _BY_HAND,
    Verb.RESUME: _BY_HAND,
    Verb.SKIP: _BY_HAND,
    Verb.EXTEND: _BY_HAND,
}
_ON_TRIAL: dict[Verb, Rule] = {
    Verb.DEPLOY: deploy_again,
    Verb.WEIGHT: weigh_by_hand,
    Verb.PROMOTE: promote_now,
    Verb.ABORT: abort,
    Verb.ROLLBACK: abort,
    Verb.UNDO: _NOT_PROMOTED,
    Verb.DRAIN: drain,
    Verb.PAUSE: pause,
    Verb.RESUME: _NOT_PAUSED,
    Verb.SKIP: skip,
    Verb.EXTEND: extend,
}
_UNSERVED: dict[Verb, Rule] = dict.fromkeys(Verb, _NOT_SERVED) | {
    Verb.DEPLOY: deploy_first,
    Verb.ABORT: already,
    Verb.DRAIN: already,
}
# FAILED holds two situations: the first version failed, or a later one beside a live version did.
_AFTER_FAILURE: Mapping[Verb, tuple[Rule, Rule]] = {
    verb: (_UNSERVED[verb], rule) for verb, rule in (_BESIDE_LIVE | {Verb.ROLLBACK: already, Verb.DRAIN: drain}).items()
}


def _after_failure(verb: Verb) -> Rule:
    unserved, beside_live = _AFTER_FAILURE[verb]
    return lambda d, order, now: (unserved if d.live is None else beside_live)(d, order, now)


TABLE: Mapping[State, Mapping[Verb, Rule]] = {
    State.ABSENT: _UNSERVED,
    State.WARMING: {
        Verb.DEPLOY: deploy_again,
        Verb.WEIGHT: _STILL_WARMING,
        Verb.PROMOTE: _STILL_WARMING,
        Verb.ABORT: abort,
        Verb.ROLLBACK: abort,
        Verb.UNDO: _NOT_PROMOTED,
        Verb.DRAIN: drain,
        Verb.PAUSE: _STILL_WARMING,
        Verb.RESUME: _NOT_PAUSED,
        Verb.SKIP: _STILL_WARMING,
        Verb.EXTEND: _STILL_WARMING,
    },
    State.CANARY: _ON_TRIAL
    | {
        Verb.WEIGHT: _by(weigh_by_hand, weigh),
        Verb.PROMOTE: _by(promote_now, promote),
        Verb.PAUSE: _by(pause, _BY_HAND),
        Verb.RESUME: _by(_NOT_PAUSED, _BY_HAND),
        Verb.SKIP: _by(skip, _BY_HAND),
        Verb.EXTEND: _by(extend, _BY_HAND),
    },
    State.SHADOW: _ON_TRIAL | {Verb.WEIGHT: _MIRRORED},
    State.HOLD: _ON_TRIAL | {Verb.RESUME: resume},
    State.BLIND: _ON_TRIAL,
    State.PAUSED: _ON_TRIAL | {Verb.PAUSE: already, Verb.RESUME: resume},
    State.INCONCLUSIVE: _ON_TRIAL | {Verb.PAUSE: _OVERDUE, Verb.SKIP: _OVERDUE},
    State.BAKING: _ON_TRIAL,
    State.PROMOTED: dict(_BESIDE_LIVE)
    | {
        Verb.PROMOTE: already,
        # The operator who aborts a moment after a promotion wants the version before it back.
        Verb.ABORT: undo,
        Verb.ROLLBACK: undo,
        Verb.UNDO: undo,
    },
    State.LIVE: _BESIDE_LIVE,
    State.ROLLED_BACK: dict(_BESIDE_LIVE) | {Verb.ROLLBACK: already},
    State.UNDONE: dict(_BESIDE_LIVE)
    | {
        Verb.WEIGHT: _ROLLED_AWAY,
        Verb.PROMOTE: promote_again,
        # A repeated rollback must never send traffic forward onto the version just rolled away from.
        Verb.ROLLBACK: already,
        Verb.UNDO: already,
    },
    State.FAILED: {verb: _after_failure(verb) for verb in Verb},
}
