"""The JSON shapes of the operating API and of `--json`, as types. Keys are stable; docs/architecture.md lists them.

They are typed dictionaries on purpose: what the API sent is what `--json` prints, with nothing lost on the way.
"""

from typing import Any, TypedDict


class Place(TypedDict):
    """A deployed version with its workers; `weight` is a percentage of the model's traffic."""

    version: int
    color: str
    weight: float
    digest: str
    replicas: int
    threads: int
    ready: int
    workers: list[dict[str, Any]]


class Previous(TypedDict):
    """The version that was live before and stays warm until `until`."""

    version: int
    color: str
    until: str | float | None


class Risk(TypedDict):
    """How many times as often the candidate's units are bad, with an interval that holds at every moment."""

    lower: float
    estimate: float
    upper: float


class Units(TypedDict):
    units: int
    bad: int


class GuardrailEvidence(TypedDict):
    """Evidence as powers of ten beside its thresholds; `safe` is None where promotion needs nothing."""

    watched: str
    on_harm: str
    harm: float
    harm_threshold: float
    safe: float | None
    safe_threshold: float
    required: bool
    risk: Risk | None
    live: Units
    candidate: Units
    said: str


class Evidence(TypedDict):
    """A rollout by evidence under way; times in seconds, `weight` is a percentage."""

    step: int
    steps: int
    stage: str
    weight: float
    dwelt: float
    dwell: float
    units: int
    units_needed: int
    age: float
    deadline: float
    unseen: float
    eta: float | None
    twice: float | None
    guardrails: list[GuardrailEvidence]


class RolloutState(TypedDict):
    """`observed` is the candidate's percentage of the latest requests."""

    strategy: str
    state: str
    step: int | str | None
    reason: str
    observed: float | None
    evidence: Evidence | None


class AppliedWeights(TypedDict):
    """What Envoy acknowledged last; `weights` maps blue and green to percentages."""

    revision: int
    weights: dict[str, float]


class Status(TypedDict):
    model: str
    revision: int
    live: Place | None
    candidate: Place | None
    previous: Previous | None
    rollout: RolloutState | None
    applied: AppliedWeights | None


class Deployed(Status):
    """What deploy answers: `warning` is what speaks against a rollout that decides in time."""

    warning: str | None


class Found(TypedDict):
    risk: float
    seconds: float | None
    requests: float | None


class Measured(TypedDict):
    requests: int
    seconds: float


class Forecast(TypedDict):
    """How long a plan would take; None is never. `problem` is why it cannot decide in time, and what would help."""

    model: str
    plan: dict[str, Any]
    requests_per_second: float
    failing: float
    measured: Measured | None
    promote_seconds: float | None
    find: list[Found]
    problem: str | None


class GatewayFacts(TypedDict):
    port: int
    admin_port: int
    envoy: str
    envoy_pid: int | None
    pid: int


class Overview(TypedDict):
    gateway: GatewayFacts | None
    models: list[Status]


class ModelRow(TypedDict):
    model: str
    live: int | None
    candidate: int | None
    versions: int


class Models(TypedDict):
    models: list[ModelRow]


class Version(TypedDict, total=False):
    """`manifest` is there only when one version was asked for; see contracts.package."""

    model: str
    version: int
    digest: str
    plan: str
    role: str | None
    color: str | None
    weight: float
    registered_at: str | float
    source: str
    seconds_per_row: float | None
    lineage: dict[str, Any]
    manifest: dict[str, Any]


class Versions(TypedDict):
    model: str
    versions: list[Version]


class Event(TypedDict):
    seq: int
    at: str | float
    actor: str
    action: str
    model: str
    version: int | None
    reason: str
    before: Any
    after: Any
    previous_hash: str
    hash: str


class History(TypedDict):
    model: str
    events: list[Event]


class Explained(TypedDict):
    """One version's answer. `role` and `state` are of the moment of the answer, None where the history does not reach
    back so far; `role_now` is None for a version that is not deployed any more. A `mirrored` answer reached nobody."""

    model: str
    version: int
    color: str
    worker: str
    role: str | None
    role_now: str | None
    state: str | None
    mirrored: bool
    at: float
    rows: int
    kind: str | None
    predicted: list[int | float | str | None]
    digest: str | None
    plan: str | None
    source: str | None
    registered_at: float | None
    lineage: dict[str, Any]


class Explanation(TypedDict):
    """`silent` are workers that could not be asked."""

    request_id: str
    answers: list[Explained]
    silent: list[str]
