"""What is deployed of one model, as a value that cannot be made inconsistent, and its form as JSON.

Color is a place and stays with a version; live, candidate and previous are roles and change. How one deployment turns
into the next is rules.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import ConfigDict, TypeAdapter

from contracts.errors import Internal
from contracts.names import Color, Role
from contracts.traffic import TOTAL, TrafficSplit
from deploy.rollout.plan import Plan, Strategy
from deploy.rollout.trial import Stage, Trial


class State(StrEnum):
    """Where a model's rollout is. `sentence` says what holds in each."""

    ABSENT = "absent"
    WARMING = "warming"
    SHADOW = "shadow"
    CANARY = "canary"
    HOLD = "hold"
    BLIND = "blind"
    PAUSED = "paused"
    INCONCLUSIVE = "inconclusive"
    BAKING = "baking"
    PROMOTED = "promoted"
    LIVE = "live"
    ROLLED_BACK = "rolled_back"
    UNDONE = "undone"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        return SENTENCES[self]


SENTENCES: Mapping[State, str] = {
    State.ABSENT: "nothing of this model is served",
    State.WARMING: "the candidate's workers are starting; it takes no traffic yet",
    State.SHADOW: "the candidate is sent copies of requests and answers nobody; what it would have said is compared",
    State.CANARY: "the candidate is warm and takes the share it was given",
    State.HOLD: "something looks wrong: weights stand still until it is over or is enough to roll back",
    State.BLIND: "there is no fresh evidence: weights stand still until there is",
    State.PAUSED: "an operator paused it; a rollback for harm stays armed",
    State.INCONCLUSIVE: "time is over without evidence for or against: an operator decides",
    State.BAKING: "the candidate has all traffic but a holdback, which goes on being compared",
    State.PROMOTED: "the candidate became live; the version before it stays warm for the undo window",
    State.LIVE: "one version is live and nothing is rolling out",
    State.ROLLED_BACK: "the candidate was given up; the live version has all traffic",
    State.UNDONE: "the promotion was undone; the version it had promoted stays warm without traffic",
    State.FAILED: "the candidate did not become ready and was given up; what was live stays live",
}


@dataclass(frozen=True)
class Place:
    """A deployed version: which one, where, with how many workers, and how many threads each computes with; 0 leaves
    these to the worker, which knows what was measured."""

    version: int
    color: Color
    digest: str
    replicas: int
    threads: int = 0


@dataclass(frozen=True)
class Deployment:
    """One model's deployment.

    weight       the candidate's share in units of contracts.traffic; the live version has the rest
    revision     grows by one with every recorded change; 0 was never recorded
    since        wall seconds when this state was entered
    plan         how a candidate that is warming will become live on evidence; None for one that is moved by hand
    trial        a rollout by evidence under way
    rolled_back  digests of versions that a rollout gave up by itself, the newest last; by evidence again only on demand
    undo_until   wall seconds until which `previous` stays warm. Wall, because it outlives restarts of the machine
    """

    model: str
    revision: int = 0
    state: State = State.ABSENT
    live: Place | None = None
    candidate: Place | None = None
    previous: Place | None = None
    weight: int = 0
    strategy: Strategy = Strategy.MANUAL
    reason: str = "never deployed"
    since: float = 0.0
    undo_until: float | None = None
    plan: Plan | None = None
    trial: Trial | None = None
    rolled_back: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = _inconsistency(self)
        if problem is not None:
            raise Internal(f"model {self.model}: a deployment cannot be {self.state} with {problem}")

    def places(self) -> tuple[tuple[Role, Place], ...]:
        """Every deployed version with its role, the live one first."""
        roles = ((Role.LIVE, self.live), (Role.CANDIDATE, self.candidate), (Role.PREVIOUS, self.previous))
        return tuple((role, place) for role, place in roles if place is not None)

    def routed(self) -> tuple[Place, ...]:
        """The places that Envoy should know: all but a candidate that is not warm yet."""
        return tuple(p for _, p in self.places() if not (self.state is State.WARMING and p is self.candidate))

    def split(self) -> TrafficSplit | None:
        """How traffic is divided, None while nothing is live."""
        if self.live is None:
            return None
        return TrafficSplit.with_share(self.live.color, TOTAL - self.weight)

    def mirrored(self) -> int:
        """Share of the requests that is copied to the candidate, in units of contracts.traffic."""
        return self.trial.plan.mirror if self.state is State.SHADOW and self.trial is not None else 0

    def place_of(self, version: int) -> tuple[Role, Place] | None:
        return next(((role, place) for role, place in self.places() if place.version == version), None)


def _inconsistency(d: Deployment) -> str | None:
    places = [place for _, place in d.places()]
    if len({p.color for p in places}) != len(places) or len({p.version for p in places}) != len(places):
        return "one place or one version in two roles"
    if not 0 <= d.weight <= TOTAL or (d.weight and (d.state not in ON_TRIAL or d.state is State.SHADOW)):
        return f"a weight of {d.weight}"
    if (d.trial is not None) != (d.state in TRIED) and d.state is not State.CANARY:
        return "a trial" if d.trial is not None else "no trial"
    here = (d.live is not None, d.candidate is not None, d.previous is not None)
    if here not in ROLES_OF[d.state]:
        return "live {}, candidate {}, previous {}".format(*("set" if h else "unset" for h in here))
    if (d.undo_until is not None) != (d.previous is not None):
        return "an undo window and no previous version, or the reverse"
    return None


TRIED = frozenset({State.SHADOW, State.HOLD, State.BLIND, State.PAUSED, State.INCONCLUSIVE, State.BAKING})
"""States of a rollout by evidence only."""
STATE_OF: Mapping[Stage, State] = {
    Stage.SHADOW: State.SHADOW,
    Stage.CANARY: State.CANARY,
    Stage.BAKING: State.BAKING,
}
"""The state of a rollout by evidence that nothing holds up."""
ON_TRIAL = TRIED | {State.CANARY}
"""States in which a warm candidate is looked at and, but for SHADOW, may take traffic; in CANARY on evidence when there
is a trial, else by hand."""

# Which of (live, candidate, previous) are set in each state.
ROLES_OF: Mapping[State, frozenset[tuple[bool, bool, bool]]] = {
    State.ABSENT: frozenset({(False, False, False)}),
    State.WARMING: frozenset({(False, True, False), (True, True, False)}),
    State.SHADOW: frozenset({(True, True, False)}),
    State.CANARY: frozenset({(True, True, False)}),
    State.HOLD: frozenset({(True, True, False)}),
    State.BLIND: frozenset({(True, True, False)}),
    State.PAUSED: frozenset({(True, True, False)}),
    State.INCONCLUSIVE: frozenset({(True, True, False)}),
    State.BAKING: frozenset({(True, True, False)}),
    State.PROMOTED: frozenset({(True, False, True)}),
    State.LIVE: frozenset({(True, False, False)}),
    State.ROLLED_BACK: frozenset({(True, False, False)}),
    State.UNDONE: frozenset({(True, False, True)}),
    State.FAILED: frozenset({(False, False, False), (True, False, False)}),
}


# Evidence may be infinite, and must come back bit for bit. None stands in the type because pydantic takes no settings
# for a dataclass alone.
_FORM: TypeAdapter[Deployment | None] = TypeAdapter(Deployment | None, config=ConfigDict(ser_json_inf_nan="constants"))


def scaled(place: Place, replicas: int) -> Place:
    return replace(place, replicas=replicas)


def to_text(d: Deployment) -> str:
    """A deployment as JSON, its evidence to the last bit."""
    return _FORM.dump_json(d).decode()


def from_text(text: str) -> Deployment:
    """The deployment that `to_text` wrote. Raises ValueError for anything else."""
    found = _FORM.validate_json(text)
    if found is None:
        raise ValueError("expected a deployment as JSON, got null")
    return found
