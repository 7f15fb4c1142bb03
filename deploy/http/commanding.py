"""The routes that change something: each hands one command to deploy.commands and answers with what came of it.

Commands that give the candidate more users may name the revision they are about, as `expected_revision` or as the
status' ETag in If-Match; abort and everything else that takes users away never needs one.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response

from contracts.errors import InvalidInput, NotFound
from contracts.names import LABEL_NAME, RESERVED_LABELS
from deploy.answers import Measured
from deploy.commands import Deployed, Operator, Wanted
from deploy.forecasts import forecast_view
from deploy.http import shapes
from deploy.http.errors import responses
from deploy.http.facts import Parts, status_of
from deploy.rollout.deployment import Deployment
from deploy.rollout.events import Verb
from deploy.rollout.forecast import Live
from deploy.rollout.plan_file import plan_from_json
from deploy.store.once import KEY_LONGEST, Once, once

_COMMAND = responses(400, 404, 409, 412, 413, 415, 500, 503)
_CHANGE = responses(400, 404, 409, 413, 415, 500, 503)

NO_REVISION = -1
"""What an If-Match that names no revision of ours asks for: none is ever like it."""


class Said:
    """What the headers of a command add to its body."""

    def __init__(
        self,
        if_match: Annotated[
            str | None, Header(description='The ETag of the status you looked at, such as "7"; 412 when it is stale.')
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=KEY_LONGEST,
                description="Repeated for the same model within a day, it answers with the first result, done once.",
            ),
        ] = None,
    ) -> None:
        self.if_match = if_match
        self.key = idempotency_key

    def operator(self, body: shapes.CommandBody | shapes.DrainBody, *asked: object) -> Operator:
        """`asked` is what makes two commands with the same key different ones."""
        expected = body.expected_revision if isinstance(body, shapes.CommandBody) else None
        if self.if_match is not None and self.if_match != "*":
            named = _revision(self.if_match)
            expected = named if expected in (None, named) else NO_REVISION
        key: Once | None = None if self.key is None else once(self.key, *asked)
        return Operator(body.actor or "unknown", body.reason, expected, key)


def _revision(etag: str) -> int:
    number = etag.strip().removeprefix('"').removesuffix('"')
    return int(number) if etag.strip() == f'"{number}"' and number.isdecimal() and len(number) < 19 else NO_REVISION


def _rollout(api: APIRouter, parts: Parts) -> None:
    @api.post("/models/{name}/deploy", response_model=shapes.Deployed, responses=_COMMAND, tags=["command"])
    async def deploy(name: str, said: _Said, response: Response, body: shapes.DeployBody | None = None) -> Any:
        """Make a version the candidate, or live when nothing is; answers once it is warm and routed."""
        asked = body or shapes.DeployBody()
        wanted = Wanted(
            version=asked.version,
            strategy=asked.strategy,
            plan=None if asked.plan is None else plan_from_json(asked.plan),
            replicas=asked.replicas,
            threads=asked.threads,
            retry=asked.retry,
            supersede=asked.supersede,
            override=asked.override,
        )
        done: Deployed = await parts.commands.deploy(name, wanted, said.operator(asked, "deploy", wanted))
        return {**_answer(parts, done.deployment, response), "warning": done.warning}

    @api.post("/models/{name}/weight", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def weight(name: str, said: _Said, response: Response, body: shapes.WeightBody) -> Any:
        """Set the candidate's share of the traffic. A rollout by evidence is paused by it."""
        operator = said.operator(body, "weight", body.percent, body.override)
        return _answer(
            parts, await parts.commands.weight(name, body.percent, operator, override=body.override), response
        )

    @api.post("/models/{name}/extend", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def extend(name: str, said: _Said, response: Response, body: shapes.ExtendBody) -> Any:
        """Give a rollout by evidence more time; one whose time was over goes on."""
        operator = said.operator(body, "extend", body.seconds)
        return _answer(parts, await parts.commands.extend(name, body.seconds, operator), response)

    @api.post("/models/{name}/drain", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def drain(name: str, said: _Said, response: Response, body: shapes.DrainBody | None = None) -> Any:
        """Stop serving a version that is not live, or the whole model."""
        asked = body or shapes.DrainBody()
        operator = said.operator(asked, "drain", asked.version)
        return _answer(parts, await parts.commands.drain(name, asked.version, operator), response)

    for verb, summary in _PLAIN.items():
        api.add_api_route(
            f"/models/{{name}}/{verb.value}",
            (_overridable if verb in _OVERRIDABLE else _plain)(parts, verb),
            methods=["POST"],
            response_model=shapes.Status,
            responses=_COMMAND,
            summary=summary,
            name=verb.value,
            tags=["command"],
        )

    @api.post("/models/{name}/forecast", response_model=shapes.Forecast, responses=_CHANGE, tags=["read"])
    async def forecast(name: str, body: shapes.ForecastBody | None = None) -> Any:
        """How long a plan would take with today's traffic, or with another one. Changes nothing."""
        asked = body or shapes.ForecastBody()
        await asyncio.to_thread(parts.registry.versions, name)
        plan = None if asked.plan is None else plan_from_json(asked.plan)
        live = None if asked.requests_per_second is None else Live(asked.requests_per_second, asked.failing)
        seen = await parts.foresight.of(name, plan, live)
        measured = None if seen.pace is None else Measured(requests=seen.pace.requests, seconds=seen.pace.seconds)
        return forecast_view(name, seen.plan, seen.live, seen.forecast, measured)


_Said = Annotated[Said, Depends()]

_PLAIN = {
    Verb.PROMOTE: "Make the candidate live; the version before it stays warm for the undo window.",
    Verb.SKIP: "The next step of the plan now, whatever is left of this one.",
    Verb.ABORT: "Return all traffic to the live version and give the candidate up. Never refused.",
    Verb.ROLLBACK: "Abort while there is a candidate, otherwise undo the last promotion.",
    Verb.UNDO: "Go back to the version that was live before the last promotion.",
    Verb.PAUSE: "Freeze a rollout by evidence; a rollback for harm stays armed.",
    Verb.RESUME: "Continue a paused rollout; with override also from what merely differs.",
}
_OVERRIDABLE = (Verb.PROMOTE, Verb.SKIP, Verb.RESUME)


def _plain(parts: Parts, verb: Verb) -> Any:
    async def command(name: str, said: _Said, response: Response, body: shapes.CommandBody | None = None) -> Any:
        operator = said.operator(body or shapes.CommandBody(), verb)
        return _answer(parts, await parts.commands.plain(name, verb, operator), response)

    return command


def _overridable(parts: Parts, verb: Verb) -> Any:
    async def command(name: str, said: _Said, response: Response, body: shapes.OverrideBody | None = None) -> Any:
        asked = body or shapes.OverrideBody()
        operator = said.operator(asked, verb, asked.override)
        return _answer(parts, await parts.commands.plain(name, verb, operator, override=asked.override), response)

    return command


def _answer(parts: Parts, deployment: Deployment, response: Response) -> dict[str, Any]:
    response.headers["etag"] = etag(deployment)
    return {**status_of(parts, deployment)}


def etag(deployment: Deployment) -> str:
    """What If-Match of a command compares: the revision."""
    return f'"{deployment.revision}"'


def _keeping(api: APIRouter, parts: Parts) -> None:
    @api.delete("/models/{name}/versions/{version}", response_model=shapes.Deleted, responses=_CHANGE, tags=["command"])
    def delete(name: str, version: shapes.VersionNumber, actor: str = "unknown") -> Any:
        """Delete a version that is not deployed, and its package when no other version shares it."""
        parts.registry.delete(name, version, actor=actor[:1000])
        return {"model": name, "version": version, "deleted": True}

    @api.put("/models/{name}/labels/{label}", response_model=shapes.Labels, responses=_CHANGE, tags=["command"])
    async def set_label(name: str, label: shapes.Label, body: shapes.LabelBody) -> Any:
        """Point a label at a version; it routes while that version is deployed."""
        return await _label(parts, name, label, body.version, body.actor)

    @api.delete("/models/{name}/labels/{label}", response_model=shapes.Labels, responses=_CHANGE, tags=["command"])
    async def remove_label(name: str, label: shapes.Label, actor: str = "unknown") -> Any:
        """Forget a label."""
        return await _label(parts, name, label, None, actor[:1000])


async def _label(parts: Parts, name: str, label: str, version: int | None, actor: str) -> Any:
    if not LABEL_NAME.fullmatch(label) or label in RESERVED_LABELS:
        raise InvalidInput(
            f"label {label[:80]!r} is not usable: expected letters, digits, '_' or '-', starting with a letter or '_', "
            f"and none of {', '.join(sorted(RESERVED_LABELS))}"
        )
    known = await asyncio.to_thread(parts.store.labels, name)
    if version is None and label not in known:
        raise NotFound(f"model {name} has no label {label!r}; set: {', '.join(known) or 'none'}")
    await asyncio.to_thread(parts.store.set_label, name, label, version, actor=actor, at=parts.clock.wall())
    await parts.reconciler.next_tick(_LABEL_SECONDS)
    return {"model": name, "labels": dict(await asyncio.to_thread(parts.store.labels, name))}


_LABEL_SECONDS = 15.0


def routes(parts: Parts) -> APIRouter:
    """Every command under /api/v1."""
    api = APIRouter(prefix="/api/v1")
    _rollout(api, parts)
    _keeping(api, parts)
    return api
