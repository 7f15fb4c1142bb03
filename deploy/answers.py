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


class RolloutState(TypedDict):
    strategy: str
    state: str
    step: int | str | None
    reason: str


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


class History(TypedDict):
    model: str
    events: list[Event]
