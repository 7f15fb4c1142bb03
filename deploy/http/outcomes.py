"""What turned out to be true, and who answered a request: the routes about single answers.

No judgement here: feedback.py and explain.py have it.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from contracts.errors import InvalidInput, NotFound
from contracts.names import MAX_VERSION
from deploy.agreement import Label
from deploy.answers import Explanation
from deploy.explain import explanation
from deploy.feedback import Judgement, Report, Result
from deploy.http.errors import responses
from deploy.http.facts import Parts
from deploy.ports import Recalled
from deploy.store.store import HISTORY_MAX

LABELS_AT_ONCE = 500
ROWS_MAX = 1000  # labels of one request
TEXT_MAX = 1000  # letters of one label
_INT64 = 2**63

_VALUE: JsonDict = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "number", "minimum": -_INT64, "exclusiveMaximum": _INT64},
        {"type": "string", "maxLength": TEXT_MAX},
    ]
}
_VALUES: JsonDict = {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1, "maxItems": ROWS_MAX}]}


def _read_values(value: Any) -> tuple[Label, ...]:
    """One value, or one per row."""
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= ROWS_MAX or not all(map(_is_value, values)):
        raise ValueError(
            f"expected a number, true or false, or a text of at most {TEXT_MAX} letters; or a list of at most "
            f"{ROWS_MAX} of them, one per row"
        )
    return tuple(values)


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    return isinstance(value, bool | int | float) and -_INT64 <= value < _INT64  # which NaN is not


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Values = Annotated[tuple[Label, ...], PlainValidator(_read_values), WithJsonSchema(_VALUES)]


class FeedbackBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request_id: Annotated[StrictStr, Field(min_length=1, max_length=128, description="The answer's x-request-id.")]
    label: _Values = Field(description="What turned out to be true; of several rows, one per row.")
    model: Annotated[StrictStr, Field(max_length=1000)] | None = Field(
        default=None, description="Asks its workers only; needed with predicted."
    )
    version: Annotated[StrictInt, Field(ge=1, le=MAX_VERSION), BeforeValidator(_whole)] | None = Field(
        default=None, description="The one that answered; needed with predicted."
    )
    predicted: _Values = Field(default=(), description="What was predicted; counts where no worker remembers it.")


class Outcome(BaseModel):
    version: int
    outcome: float = Field(description="From 0, wrong, to 1, right.")


class Judged(BaseModel):
    request_id: str
    result: Result
    reason: str
    model: str | None
    outcomes: list[Outcome]


class JudgedList(BaseModel):
    results: list[Judged]


class ExplainedAnswer(BaseModel):
    model: str
    version: int
    color: str
    worker: str
    role: str | None
    role_now: str | None
    state: str | None
    mirrored: bool
    at: float = Field(description="Seconds since the epoch.")
    rows: int
    kind: str | None
    predicted: list[int | float | str | None]
    digest: str | None
    plan: str | None
    source: str | None
    registered_at: float | None
    lineage: dict[str, Any]


class ExplainedRequest(BaseModel):
    request_id: str
    answers: list[ExplainedAnswer]
    silent: list[str] = Field(description="Workers that could not be asked.")


_Many = Annotated[list[FeedbackBody], Field(min_length=1, max_length=LABELS_AT_ONCE)]
_OneOrMany = Annotated[
    Annotated[FeedbackBody, Tag("feedback")] | Annotated[_Many, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "feedback"),
]
_REFUSED = {Result.UNKNOWN: NotFound, Result.UNFIT: InvalidInput}


def routes(parts: Parts) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["outcomes"])

    @api.post("/feedback", response_model=Judged | JudgedList, responses=responses(400, 404, 413, 415, 500))
    async def feedback(body: _OneOrMany) -> Any:
        """Join what turned out to be true with the answer it is about. One label is refused when it cannot be joined;
        of a list every item says what became of it."""
        if isinstance(body, list):
            judged = await parts.judge.hear([_report(each) for each in body])
            return {"results": [_view(each) for each in judged]}
        (one,) = await parts.judge.hear([_report(body)])
        if one.result in _REFUSED:
            raise _REFUSED[one.result](f"request {one.request_id!r}: {one.reason}")
        return _view(one)

    @api.get("/explain/{request_id:path}", response_model=ExplainedRequest, responses=responses(400, 404, 500))
    async def explain(request_id: str) -> Any:
        """Which version answered a request, with what, and how that version was made."""
        recalled = await parts.recollection.recall([request_id])
        return await asyncio.to_thread(_explained, parts, request_id, recalled)

    return api


def _report(body: FeedbackBody) -> Report:
    return Report(body.request_id, body.label, body.model, body.version, body.predicted)


def _view(judgement: Judgement) -> dict[str, Any]:
    return {
        "request_id": judgement.request_id,
        "result": judgement.result,
        "reason": judgement.reason,
        "model": judgement.model,
        "outcomes": [{"version": version, "outcome": value} for version, value in judgement.outcomes],
    }


def _explained(parts: Parts, request_id: str, recalled: Recalled) -> Explanation:
    models = {answer.model for answer in recalled.answers}
    return explanation(
        request_id,
        recalled,
        {(v.model, v.version): v for model in models for v in parts.store.versions(model)},
        {model: parts.store.history(model, HISTORY_MAX) for model in models},
        {model: parts.store.deployment(model) for model in models},
    )
