"""Every body and every answer of the API as pydantic models, so that its OpenAPI says exactly what happens.

The values are made by deploy.views; the shapes are those of docs/architecture.md. Unknown fields of bodies are refused.
"""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from contracts.names import LABEL_NAME, MAX_VERSION, RESERVED_LABELS, Color, Role
from deploy.ports import WorkerState
from deploy.rollout.deployment import State
from deploy.rollout.events import MAX_REPLICAS, MAX_THREADS
from deploy.rollout.plan import Strategy

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION, description="Number of a registered version.")]
Label = Annotated[
    str,
    Path(
        description="Letters, digits, '_' or '-', starting with a letter or '_'; not live, candidate, blue or green.",
        # For the reader only: api.py refuses with a sentence.
        json_schema_extra={"pattern": f"^(?!({'|'.join(sorted(RESERVED_LABELS))})$){LABEL_NAME.pattern}$"},
    ),
]
Words = Annotated[str, StringConstraints(max_length=1000, strip_whitespace=True)]


_PERCENT_NUMBER: JsonDict = {"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.01}
_PERCENT_TEXT: JsonDict = {"type": "string", "pattern": r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$"}


class _Body(BaseModel):
    # strict: true is not 1, and "25" is not 25
    model_config = ConfigDict(extra="forbid", strict=True)

    actor: Words = Field(default="unknown", description="Who gives the command; kept in the history.")
    reason: Words = Field(default="", description="Why; kept in the history.")

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any) -> Any:
        """JSON has one kind of number: 3.0 is 3, also where a program writes it so."""
        if not isinstance(value, dict):
            return value
        whole = {name: int(item) for name, item in value.items() if isinstance(item, float) and item.is_integer()}
        return value | whole


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
    threads: int | None = Field(
        default=None, ge=0, le=MAX_THREADS, description="Threads inside one run; 0: each worker chooses."
    )


class WeightBody(CommandBody):
    percent: int | float | str = Field(
        description="The candidate's share, 0 to 100 in steps of 0.01.",
        json_schema_extra={"anyOf": [_PERCENT_NUMBER, _PERCENT_TEXT]},
    )


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
    threads: int = Field(description="Threads inside one run; 0: each worker chooses by what was measured.")
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
