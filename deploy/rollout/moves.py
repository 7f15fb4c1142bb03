"""The moves of a deployment: what each command makes of it, and what is refused with which next step. Pure.

A deploy has a file of its own, deploys.py; which move answers which command in which state is rules.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from contracts.errors import Conflict, InvalidInput, Stale
from contracts.traffic import TOTAL, percent
from deploy.rollout.deployment import ON_TRIAL, Deployment, Place, State
from deploy.rollout.events import Drain, Health, Order, Weight

_REMEMBERED = 32  # versions that were rolled back by evidence
UNDO_SECONDS = 24 * 3600.0  # how long the version before a promotion stays warm


@dataclass(frozen=True)
class Decision:
    """What becomes of a deployment. `action` is None when nothing changes; then `deployment` is the one given.
    `version` is the version the action is about, `because` the reason in a word where the rules of a rollout by
    evidence decided."""

    deployment: Deployment
    action: str | None
    reason: str
    version: int | None = None
    because: str = ""


Rule = Callable[[Deployment, Order, float], Decision]


def weigh(d: Deployment, order: Order, now: float) -> Decision:
    units, candidate, live = units_of(order), candidate_of(d), live_of(d)
    if units == d.weight:
        return stay(d, f"version {candidate.version} already takes {percent(units)}")
    if units > d.weight:
        check_revision(d, order)
        check_able(d, candidate, order.seen.candidate, order.seen.live, "give it more traffic")
    reason = (
        f"version {candidate.version} ({candidate.color}) takes {percent(units)}, "
        f"version {live.version} ({live.color}) {percent(TOTAL - units)}"
    )
    return move(d, now, "weight", with_reason(reason, order), candidate.version, weight=units)


def promote(d: Deployment, order: Order, now: float) -> Decision:
    check_revision(d, order)
    candidate, live = candidate_of(d), live_of(d)
    check_able(d, candidate, order.seen.candidate, order.seen.live, "promote it")
    reason = f"version {candidate.version} is live; version {live.version} stays warm in {live.color} for {_hours()} h"
    return promoted(d, now, "promote", reason, order.reason)


def promote_again(d: Deployment, order: Order, now: float) -> Decision:
    """After an undo the version rolled away from is still warm; promoting goes forward to it again."""
    check_revision(d, order)
    return _swap(d, order, now, State.PROMOTED, "promote")


def promoted(
    d: Deployment, now: float, action: str, reason: str, because: str, *, undo_seconds: float = UNDO_SECONDS
) -> Decision:
    candidate = candidate_of(d)
    return move(
        d,
        now,
        action,
        f"{reason}: {because}" if because else reason,
        candidate.version,
        state=State.PROMOTED,
        live=candidate,
        previous=live_of(d),
        candidate=None,
        trial=None,
        weight=0,
        undo_until=now + undo_seconds,
        rolled_back=tuple(digest for digest in d.rolled_back if digest != candidate.digest),
    )


def abort(d: Deployment, order: Order, now: float) -> Decision:
    candidate, verb = candidate_of(d), order.command.verb.value
    if d.live is None:
        reason = f"version {candidate.version} was given up while warming; the model is not served"
        return move(d, now, verb, with_reason(reason, order), candidate.version, state=State.ABSENT, candidate=None)
    had = f"took {percent(d.weight)}" if d.state in ON_TRIAL else "was warming"
    reason = f"version {d.live.version} has all traffic again; candidate {candidate.version} {had} and was given up"
    return given_up(d, now, verb, with_reason(reason, order))


def given_up(d: Deployment, now: float, action: str, reason: str, *, by_itself: bool = False) -> Decision:
    """The live version has all traffic again. What a rollout gave up by itself is remembered: nobody should have it
    try again and again by mistake."""
    candidate = candidate_of(d)
    others = tuple(digest for digest in d.rolled_back if digest != candidate.digest)
    remembered = (*others, candidate.digest)[-_REMEMBERED:] if by_itself else d.rolled_back
    to: dict[str, Any] = {"candidate": None, "trial": None, "weight": 0, "rolled_back": remembered}
    return move(d, now, action, reason, candidate.version, state=State.ROLLED_BACK, **to)


def undo(d: Deployment, order: Order, now: float) -> Decision:
    return _swap(d, order, now, State.UNDONE, order.command.verb.value)


def _swap(d: Deployment, order: Order, now: float, state: State, action: str) -> Decision:
    """Live and previous change roles: one weight change onto a version that is still warm."""
    live, previous = live_of(d), _previous(d)
    check_able(d, previous, order.seen.previous, order.seen.live, "return to it")
    reason = (
        f"version {previous.version} is live again; version {live.version} stays warm without traffic for {_hours()} h"
    )
    return move(
        d,
        now,
        action,
        with_reason(reason, order),
        previous.version,
        state=state,
        live=previous,
        previous=live,
        undo_until=now + UNDO_SECONDS,
    )


def drain(d: Deployment, order: Order, now: float) -> Decision:
    version = order.command.version if isinstance(order.command, Drain) else None
    if version is None:
        return _drain_all(d, order, now)
    if d.candidate is not None and d.candidate.version == version:
        return abort(d, order, now)
    if d.previous is not None and d.previous.version == version:
        reason = f"version {version} was released before the undo window was over; version {live_of(d).version} is live"
        return move(
            d, now, "drain", with_reason(reason, order), version, state=State.LIVE, previous=None, undo_until=None
        )
    if d.live is not None and d.live.version == version:
        raise Conflict(
            f"model {d.model}: version {version} is live; deploy and promote another version first, "
            "or drain the model without naming a version to stop serving it"
        )
    return stay(d, f"version {version} is not deployed")


def _drain_all(d: Deployment, order: Order, now: float) -> Decision:
    nothing = {"live": None, "candidate": None, "previous": None, "trial": None, "weight": 0, "undo_until": None}
    return move(
        d, now, "drain", with_reason("the model is no longer served", order), None, state=State.ABSENT, **nothing
    )


def already(d: Deployment, _order: Order, _now: float) -> Decision:
    return stay(d, d.reason)


def refuse(sentence: str) -> Rule:
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


def move(
    d: Deployment, now: float, action: str, reason: str, version: int | None, *, since: float | None = None, **to: Any
) -> Decision:
    """The one place where a deployment becomes its successor."""
    entered = now if since is None else since
    return Decision(replace(d, revision=d.revision + 1, reason=reason, since=entered, **to), action, reason, version)


def stay(d: Deployment, reason: str) -> Decision:
    return Decision(d, None, reason)


def check_revision(d: Deployment, order: Order) -> None:
    if order.expected_revision is not None and order.expected_revision != d.revision:
        raise Stale(
            f"model {d.model} is at revision {d.revision}, not {order.expected_revision}: {d.reason}. "
            f"Look at its status and repeat the {order.command.verb.value} if it is still right"
        )


def check_able(d: Deployment, target: Place, there: Health, today: Health, what: str) -> None:
    """Never move traffic from a version that answers onto one that cannot. Between two dead ones nothing is lost."""
    if there.ready == 0 and today.ready > 0:
        raise Conflict(
            f"model {d.model}: version {target.version} has no ready worker now ({there.waiting_for}), so traffic "
            f"moved there would fail; {what} when it is ready again"
        )


def with_reason(reason: str, order: Order) -> str:
    return f"{reason}: {order.reason}" if order.reason else reason


def _hours() -> str:
    return f"{UNDO_SECONDS / 3600:g}"


def live_of(d: Deployment) -> Place:
    return _there(d, d.live, "live version")


def candidate_of(d: Deployment) -> Place:
    return _there(d, d.candidate, "candidate")


def _previous(d: Deployment) -> Place:
    return _there(d, d.previous, "previous version")


def _there(d: Deployment, place: Place | None, role: str) -> Place:
    if place is None:  # ROLES_OF rules this out for every state whose rules ask
        raise AssertionError(f"{d.state} without a {role}")
    return place


def units_of(order: Order) -> int:
    if not isinstance(order.command, Weight):
        raise TypeError(f"expected a Weight, got {type(order.command).__name__}")
    if not 0 <= order.command.units <= TOTAL:
        raise InvalidInput(f"weight {percent(order.command.units)} is out of range: expected 0 to 100 %")
    return order.command.units
