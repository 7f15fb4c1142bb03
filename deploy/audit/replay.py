"""Decides again what was decided, from what was kept. Pure; of a rollout it knows `decide` and the form as JSON."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from deploy.audit.observations import Seen, unpacked
from deploy.rollout.deployment import Deployment, from_text, to_text
from deploy.rollout.moves import Decision
from deploy.rollout.rules import decide


class Replayed(NamedTuple):
    """The last decision of a stretch, what it was made on and from."""

    before: Deployment
    seen: Seen
    decision: Decision


class Differs(Exception):
    """A decision comes out otherwise than it was recorded, or cannot be made at all."""


def replay(start: str, bodies: Sequence[bytes], *, decided: bool) -> tuple[str, Replayed | None]:
    """What becomes of the deployment `start` with one observation after the other, as JSON, and the last decision. Only
    that one may move it, and only when the stretch ended with an automatic decision. Raises Differs."""
    deployment, last = _read(start), None
    for number, body in enumerate(bodies, 1):
        seen, before = unpacked(body), deployment
        try:
            decision = decide(before, seen.observation, seen.now)
        except Exception as error:  # whatever it is, these rules cannot make of it what was made of it then
            raise Differs(f"observation {number} cannot be decided on: {type(error).__name__}: {error}") from error
        if decision.action is not None and not (decided and number == len(bodies)):
            raise Differs(f"observation {number} would have led to {decision.action!r}, and nothing was decided on it")
        deployment, last = decision.deployment, Replayed(before, seen, decision)
    return exact(to_text(deployment)), last


def exact(text: str) -> str:
    """One deployment, one text: 0 and 0.0 are the same number. Raises Differs for what is no deployment."""
    return to_text(_read(text))


def difference(recorded: str, replayed: str) -> str:
    """Where two deployments part: the first field, with both values."""
    path, here, there = _parting(json.loads(recorded), json.loads(replayed), "")
    return f"{path or 'all of it'} was recorded as {_short(here)} and comes out as {_short(there)}"


def _read(text: str) -> Deployment:
    try:
        return from_text(text)
    except Exception as error:  # a deployment refuses what is inconsistent in words of its own
        raise Differs(f"what is recorded is no deployment: {error}") from error


def _parting(here: Any, there: Any, path: str) -> tuple[str, Any, Any]:
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(here, dict) and isinstance(there, dict):
        pairs = [(key, here.get(key), there.get(key)) for key in {**here, **there}]
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = [(number, *both) for number, both in enumerate(zip(here, there, strict=True))]
    for key, one, other in pairs:
        if repr(one) != repr(other):  # by repr: not a number is not itself, and -0.0 is not 0.0
            return _parting(one, other, f"{path}.{key}".lstrip("."))
    return path, here, there


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
