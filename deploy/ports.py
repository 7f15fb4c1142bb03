"""What the control plane needs from the world, as small as it can be said. Each port has a fake in tests/fakes.

`deploy/fleet` implements Fleet with local processes (Kubernetes comes later); `router` implements Traffic with Envoy.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from contracts.names import Color
from deploy.evidence.counted import Compared
from deploy.evidence.counters import Looked, Version
from deploy.rollout.deployment import Deployment
from router.table import RoutingTable


@dataclass(frozen=True)
class Placement:
    """Workers that should exist: `replicas` processes of one version in one place.

    `share` is how many workers of the version a worker that starts now shares the cores with, itself included. It is
    no difference between two placements: a version that becomes wider keeps the workers it has. Nor is `gentle`, which
    says that a worker that starts now can wait: others serve meanwhile and need the cores."""

    model: str
    version: int
    color: Color
    digest: str
    package: str
    replicas: int = 1
    threads: int = 0
    share: int = field(default=1, compare=False)
    gentle: bool = field(default=False, compare=False)


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"  # process runs, not ready yet
    READY = "ready"  # takes requests
    DRAINING = "draining"  # finishes what it has, takes nothing new
    WAITING = "waiting"  # died; will be started again after its back-off
    BROKEN = "broken"  # died too often or cannot load its package; will not be started again by itself


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as the fleet knows it. `endpoint` is what a Backend lists; `reason` is a sentence for people."""

    id: str
    model: str
    version: int
    color: Color
    state: WorkerState
    endpoint: str
    pid: int | None
    restarts: int
    reason: str


class Fleet(Protocol):
    """Keeps workers alive."""

    async def converge(self, wanted: Collection[Placement]) -> None:
        """Make the fleet be exactly `wanted`: start what is missing, drain and stop what is not wanted any more.
        Returns once it is under way, not once it is done; watch `workers()`."""

    def workers(self) -> tuple[WorkerStatus, ...]:
        """Every worker there is, the draining ones included."""

    async def changed(self, seen: int) -> int:
        """Return the fleet's change counter as soon as it is greater than `seen`."""


@dataclass(frozen=True)
class Applied:
    """Proof that Envoy has a table: its own version words and how long the acknowledgement took, in seconds."""

    version: str
    seconds: float


class Counters(Protocol):
    """What has been counted of deployed versions, raw."""

    async def look(self, versions: Collection[Version]) -> Looked:
        """All series of these versions now; a version the source knows nothing of may be left out. Raises Unavailable
        when the source cannot be asked, which is not the same as nothing counted."""


Value = int | float | str | None
"""What was predicted for one row: a class, a score or a text; None for what is no number."""


@dataclass(frozen=True)
class Answered:
    """What a worker remembers of one request (contracts.worker). `at` is wall seconds; without a `kind` (class, score
    or text) nothing is known of what was `predicted`, else there is one value per row."""

    request_id: str
    model: str
    version: int
    color: Color
    worker: str
    at: float
    rows: int
    kind: str | None
    predicted: tuple[Value, ...]


@dataclass(frozen=True)
class Recalled:
    """What workers remember, and the workers that could not be asked."""

    answers: tuple[Answered, ...]
    silent: tuple[str, ...] = ()


class Recollection(Protocol):
    """The workers' memories of their answers."""

    async def recall(self, ids: Collection[str], model: str | None = None) -> Recalled:
        """All answers to these requests that any worker, of this model, remembers."""

    async def since(self, worker: WorkerStatus, after: float | None, share: int) -> tuple[float, tuple[Answered, ...]]:
        """Answers of one worker after `after` to a share of all request ids, and what to ask with next; none without
        `after`. Raises Unavailable."""


class Outcomes(Protocol):
    """What is known of a rollout's answers beyond counters."""

    def take(self, deployment: Deployment) -> tuple[tuple[tuple[float, float], ...], Compared]:
        """What is new since it was taken before: outcomes of labelled answers of live version and candidate in pairs,
        in the order in which the labels arrived, and how many mirrored requests both answered alike or not."""


class Traffic(Protocol):
    """Moves traffic."""

    async def publish(self, table: RoutingTable) -> Applied:
        """Make Envoy route by `table`, make-before-break, and return once it is acknowledged and what was removed has
        drained. Raises PublishRefused with Envoy's own words, PublishTimedOut when Envoy does not answer; in both
        cases the former table stays in force."""
