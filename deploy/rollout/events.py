"""What can happen to a deployment: commands of operators and observations of the fleet. Values only.

How a deployment answers them is rules.py.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from contracts.errors import InvalidInput
from deploy.evidence.counted import Counted
from deploy.ports import WorkerState, WorkerStatus
from deploy.rollout.deployment import Deployment, Place
from deploy.rollout.plan import Plan, Strategy

MAX_THREADS = 1024  # of one worker; more than any machine has cores
MAX_REPLICAS = 64  # of one version on one machine; a typing mistake must not start thousands of processes


class Verb(StrEnum):
    """What an operator can say."""

    DEPLOY = "deploy"
    WEIGHT = "weight"
    PROMOTE = "promote"
    ABORT = "abort"
    ROLLBACK = "rollback"
    UNDO = "undo"
    DRAIN = "drain"
    PAUSE = "pause"
    RESUME = "resume"
    SKIP = "skip"
    EXTEND = "extend"


@dataclass(frozen=True)
class Deploy:
    """Make `version` the candidate, or live when nothing is. None leaves a choice to the rules.

    retry      also by evidence after evidence rolled this version back
    supersede  give up the candidate that is there for this one
    problems   how its signature does not fit the live version's (preflight.py); `override` deploys it all the same
    """

    verb: ClassVar[Verb] = Verb.DEPLOY
    version: int
    digest: str
    strategy: Strategy | None = None
    replicas: int | None = None
    threads: int | None = None
    plan: Plan | None = None
    retry: bool = False
    supersede: bool = False
    problems: tuple[str, ...] = ()
    override: bool = False

    def __post_init__(self) -> None:
        if self.plan is not None and self.strategy not in (None, self.plan.strategy):
            raise InvalidInput(
                f"the plan is for strategy {self.plan.strategy}, not {self.strategy}: name one of them, or the same"
            )
        if self.threads is not None and not 0 <= self.threads <= MAX_THREADS:
            raise InvalidInput(
                f"threads {self.threads} is out of range: expected 0 (the worker chooses) to {MAX_THREADS}"
            )
        if self.replicas is not None and not 1 <= self.replicas <= MAX_REPLICAS:
            raise InvalidInput(f"replicas {self.replicas} is out of range: expected 1 to {MAX_REPLICAS}")

    @property
    def asked(self) -> Strategy | None:
        """The strategy that was named, by itself or by the plan."""
        return self.strategy if self.plan is None else self.plan.strategy


@dataclass(frozen=True)
class Weight:
    """Give the candidate `units` of 0.01 % of the traffic; `override` as in Plain."""

    verb: ClassVar[Verb] = Verb.WEIGHT
    units: int
    override: bool = False


@dataclass(frozen=True)
class Drain:
    """Stop serving `version`, or the whole model."""

    verb: ClassVar[Verb] = Verb.DRAIN
    version: int | None = None


@dataclass(frozen=True)
class Extend:
    """Give a rollout by evidence more time, in seconds."""

    verb: ClassVar[Verb] = Verb.EXTEND
    seconds: float


@dataclass(frozen=True)
class Plain:
    """A command that is only its verb: promote, abort, rollback, undo, pause, resume, skip. `override` goes ahead
    where evidence is missing, never where it speaks against."""

    verb: Verb
    override: bool = False


Command = Deploy | Weight | Drain | Extend | Plain


@dataclass(frozen=True)
class Health:
    """One place as the fleet sees it: ready workers, why one of them is broken (None: none is), the latest reason of a
    worker that is not ready, and how often one of them died, which a quick restart would hide from `ready`."""

    ready: int = 0
    broken: str | None = None
    waiting_for: str = "no worker has started yet"
    deaths: int = 0


@dataclass(frozen=True)
class Observation:
    """The fleet at one moment, role by role. `warming_seconds` is how long the candidate has been warming, measured by
    this process on its monotonic clock: a jump of the wall clock fails nobody.

    seconds    since the observation before, on the same clock; 0 for the first one of this process
    counted    new counts of live version and candidate, None when there are none, and then `gap` says why
    in_force   Envoy acknowledged the weights that are recorded
    """

    live: Health = field(default_factory=Health)
    candidate: Health = field(default_factory=Health)
    previous: Health = field(default_factory=Health)
    warming_seconds: float = 0.0
    seconds: float = 0.0
    counted: Counted | None = None
    gap: str = "nothing was counted yet"
    in_force: bool = True


@dataclass(frozen=True)
class Order:
    """A command with who gave it and what was seen when it came. `expected_revision` is the revision the operator
    looked at; commands that expose more users to the candidate are refused when it is not today's."""

    command: Command
    seen: Observation
    reason: str = ""
    expected_revision: int | None = None


def observe(deployment: Deployment, workers: Collection[WorkerStatus], **facts: Any) -> Observation:
    """The fleet as it is now; `facts` are the other fields of an Observation."""
    return Observation(
        live=_health(deployment, deployment.live, workers),
        candidate=_health(deployment, deployment.candidate, workers),
        previous=_health(deployment, deployment.previous, workers),
        **facts,
    )


def workers_of(model: str, place: Place, workers: Collection[WorkerStatus]) -> tuple[WorkerStatus, ...]:
    """The workers of one place. The version counts too: the former tenant of a color may still be draining there."""
    return tuple(w for w in workers if (w.model, w.version, w.color) == (model, place.version, place.color))


def _health(deployment: Deployment, place: Place | None, workers: Collection[WorkerStatus]) -> Health:
    if place is None:
        return Health()
    own = workers_of(deployment.model, place, workers)
    broken = next((w.reason for w in own if w.state is WorkerState.BROKEN), None)
    waiting = next((w.reason for w in own if w.state not in (WorkerState.READY, WorkerState.DRAINING)), "")
    return Health(
        ready=sum(w.state is WorkerState.READY for w in own),
        broken=broken,
        waiting_for=waiting or Health.waiting_for,
        deaths=sum(w.restarts for w in own),
    )
