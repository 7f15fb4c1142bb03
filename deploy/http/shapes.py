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
from deploy.rollout.plan import OnHarm, Strategy, Watched
from deploy.rollout.trial import Stage

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


PlanObject = Annotated[
    dict[str, Any],
    Field(description="How it is rolled out on evidence, as a plan file says it: docs/rollouts.md."),
]


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


class OverrideBody(CommandBody):
    override: bool = Field(default=False, description="Also where evidence is missing; never where it speaks against.")


class DeployBody(CommandBody):
    version: VersionNumber | None = Field(default=None, description="Default: the newest that is not live.")
    strategy: Annotated[Strategy, Field(strict=False)] | None = Field(
        default=None, description="Default: that of the plan, else canary for a later version."
    )
    plan: PlanObject | None = None
    replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    threads: int | None = Field(
        default=None, ge=0, le=MAX_THREADS, description="Threads inside one run; 0: each worker chooses."
    )
    retry: bool = Field(default=False, description="By evidence also a version that evidence rolled back before.")
    supersede: bool = Field(default=False, description="Give up the candidate that is there for this version.")
    override: bool = Field(default=False, description="Also a version whose signature does not fit the live one's.")


class WeightBody(OverrideBody):
    percent: int | float | str = Field(
        description="The candidate's share, 0 to 100 in steps of 0.01.",
        json_schema_extra={"anyOf": [_PERCENT_NUMBER, _PERCENT_TEXT]},
    )


class ExtendBody(CommandBody):
    seconds: float = Field(gt=0, le=7 * 24 * 3600, description="How much more time the rollout gets.")


class ForecastBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    plan: PlanObject | None = Field(default=None, description="Default: the plan of today's rollout, else canary's.")
    requests_per_second: float | None = Field(
        default=None, ge=0, le=1e9, description="Default: what the live version answers now, measured for 3 seconds."
    )
    failing: float = Field(
        default=0.0, ge=0, le=1, description="Share of those that fail by its fault; with requests_per_second only."
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


class Risk(BaseModel):
    lower: float
    estimate: float
    upper: float


class Units(BaseModel):
    units: int
    bad: int


class GuardrailEvidence(BaseModel):
    watched: Watched
    on_harm: OnHarm
    harm: float = Field(description="Evidence that the candidate is worse, as a power of ten.")
    harm_threshold: float = Field(description="From here on the plan acts on it.")
    safe: float | None = Field(description="Evidence that it is no worse by the margin, as a power of ten.")
    safe_threshold: float
    required: bool = Field(description="Promotion waits for `safe` to reach its threshold.")
    risk: Risk | None = Field(description="How many times as often the candidate's units are bad, with its interval.")
    live: Units
    candidate: Units
    said: str


class Evidence(BaseModel):
    step: int
    steps: int
    stage: Stage
    weight: float = Field(description="Per cent that the plan asks for now.")
    dwelt: float = Field(description="Seconds in this step, of `dwell` at least.")
    dwell: float
    units: int = Field(description="Requests the candidate finished in this step, of `units_needed` at least.")
    units_needed: int
    age: float = Field(description="Seconds since the rollout began; at `deadline` an operator decides.")
    deadline: float
    unseen: float = Field(description="Seconds since the newest evidence.")
    eta: float | None = Field(description="Seconds to promotion of a candidate that is no worse; null: not known.")
    twice: float | None = Field(description="Seconds until one that fails twice as often would be found; null: never.")
    guardrails: list[GuardrailEvidence]


class Rollout(BaseModel):
    strategy: Strategy
    state: State
    step: str | None
    reason: str
    observed: float | None = Field(description="Per cent of the latest requests that the candidate answered.")
    evidence: Evidence | None = Field(description="Of a rollout by evidence that is under way.")


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


class Deployed(Status):
    warning: str | None = Field(description="What speaks against a rollout that decides in time.")


class Found(BaseModel):
    risk: float = Field(description="Fails so many times as often as the live version.")
    seconds: float | None = Field(description="Until that is found, from the first step on; null: never.")
    requests: float | None = Field(description="Requests the candidate answers meanwhile.")


class Measured(BaseModel):
    requests: int
    seconds: float


class Forecast(BaseModel):
    model: str
    plan: PlanObject
    requests_per_second: float
    failing: float
    measured: Measured | None
    promote_seconds: float | None = Field(description="To promotion of a candidate that is no worse; null: never.")
    find: list[Found]
    problem: str | None = Field(description="Why the plan cannot decide in time, and what would help.")


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
    previous_hash: str
    hash: str


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
