"""Every body and every answer of the API as pydantic models, so that its OpenAPI says exactly what happens.

The values are made by deploy.views; the shapes are those of docs/architecture.md. Unknown fields of bodies are refused.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts.names import MAX_VERSION, Color, Role
from deploy.ports import WorkerState
from deploy.rollout.deployment import State
from deploy.rollout.events import MAX_REPLICAS
from deploy.rollout.plan import Strategy

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION, description="Number of a registered version.")]
Words = Annotated[str, StringConstraints(max_length=1000, strip_whitespace=True)]


class _Body(BaseModel):
    # strict: true is not 1, and "25" is not 25
    model_config = ConfigDict(extra="forbid", strict=True)

    actor: Words = Field(default="unknown", description="Who gives the command; kept in the history.")
    reason: Words = Field(default="", description="Why; kept in the history.")


class CommandBody(_Body):
    expected_revision: int | None = Field(
        default=None,
        ge=0,
        description="The revision you looked at; refused with 409 when it is not today's and users get more.",
    )


class DeployBody(CommandBody):
    version: VersionNumber | None = Field(default=None, description="Default: the newest that is not live.")
    strategy: Annotated[Strategy, Field(strict=False)] | None = None
    replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)


class WeightBody(CommandBody):
    percent: int | float | str = Field(description="The candidate's share, 0 to 100 in steps of 0.01.")


class DrainBody(_Body):
    version: VersionNumber | None = Field(default=None, description="Default: the whole model stops being served.")


class LabelBody(_Body):
    version: VersionNumber


class Worker(BaseModel):
    id: str
    state: WorkerState
    pid: int | None
    restarts: int
    reason: str


class Place(BaseModel):
    version: int
    color: Color
    weight: float = Field(description="Per cent of the model's traffic that is wanted here.")
    digest: str
    replicas: int
    ready: int
    workers: list[Worker]


class Previous(BaseModel):
    version: int
    color: Color
    until: float = Field(description="Seconds since the epoch until which it stays warm.")


class Rollout(BaseModel):
    strategy: Strategy
    state: State
    step: str | None
    reason: str


class Applied(BaseModel):
    revision: int
    weights: dict[Color, float]


class Status(BaseModel):
    model: str
    revision: int
    live: Place | None
    candidate: Place | None
    previous: Previous | None
    rollout: Rollout | None
    applied: Applied | None


class Gateway(BaseModel):
    port: int
    admin_port: int
    envoy: str = Field(description='"ready", or its state and why.')
    envoy_pid: int | None
    pid: int


class Overview(BaseModel):
    gateway: Gateway
    models: list[Status]


class ModelRow(BaseModel):
    model: str
    live: int | None
    candidate: int | None
    versions: int


class Models(BaseModel):
    models: list[ModelRow]


class Version(BaseModel):
    model: str
    version: int
    digest: str
    plan: str
    role: Role | None
    color: Color | None
    weight: float
    registered_at: float = Field(description="Seconds since the epoch.")
    source: str
    seconds_per_row: float | None
    lineage: dict[str, Any]


class VersionDetail(Version):
    manifest: dict[str, Any]


class Versions(BaseModel):
    model: str
    versions: list[Version]


class Event(BaseModel):
    seq: int
    at: float
    actor: str
    action: str
    model: str
    version: int | None
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class History(BaseModel):
    model: str
    events: list[Event]


class Deleted(BaseModel):
    model: str
    version: int
    deleted: bool


class Health(BaseModel):
    status: str


class Labels(BaseModel):
    model: str
    labels: dict[str, int]


class Target(BaseModel):
    targets: list[str]
    labels: dict[str, str]
