"""The operating API: routes that read what the control plane knows and hand commands to deploy.commands.

No judgement here: a route finds the parts, asks, and renders. Errors rise to errors.py.
"""

import asyncio
import os
from typing import Annotated, Any

from fastapi import APIRouter, Query

from contracts.errors import InvalidInput, NotFound
from contracts.names import LABEL_NAME, RESERVED_LABELS
from contracts.package import manifest_to_json
from deploy import views
from deploy.commands import Operator
from deploy.http import shapes
from deploy.http.errors import responses
from deploy.http.facts import Parts
from deploy.rollout.deployment import Deployment
from deploy.rollout.events import Verb
from deploy.store.store import HISTORY_MAX

_READ = responses(400, 404, 500)
_COMMAND = responses(400, 404, 409, 413, 415, 500, 503)


def routes(parts: Parts) -> APIRouter:
    """Everything under /api/v1."""
    api = APIRouter(prefix="/api/v1")
    _reading(api, parts)
    _commanding(api, parts)
    return api


def _reading(api: APIRouter, parts: Parts) -> None:
    @api.get("/models", response_model=shapes.Models, responses=responses(400, 500), tags=["read"])
    def models() -> Any:
        """Every registered model and what is deployed of it."""
        rows = [
            views.model_view(name, len(parts.registry.versions(name)), parts.store.deployment(name))
            for name in parts.registry.models()
        ]
        return {"models": rows}

    @api.get("/models/{name}", response_model=shapes.Versions, responses=_READ, tags=["read"])
    def versions(name: str) -> Any:
        """The versions of a model, oldest first."""
        deployment = parts.store.deployment(name)
        return {"model": name, "versions": [views.version_view(v, deployment) for v in parts.registry.versions(name)]}

    @api.get("/models/{name}/versions/{version}", response_model=shapes.VersionDetail, responses=_READ, tags=["read"])
    def version(name: str, version: shapes.VersionNumber) -> Any:
        """One version with its whole manifest: signature, plans, reports, files."""
        found = views.version_view(parts.registry.version(name, version), parts.store.deployment(name))
        return {**found, "manifest": manifest_to_json(parts.registry.manifest(name, version))}

    @api.get("/status", response_model=shapes.Overview, responses=responses(400, 500), tags=["read"])
    async def overview() -> Any:
        """The gateway and every model, deployed or not."""
        deployments = await asyncio.to_thread(_everything, parts)
        gateway = {
            "port": parts.port,
            "admin_port": parts.admin_port,
            "envoy": parts.envoy_state(),
            "envoy_pid": parts.envoy_pid(),
            "pid": os.getpid(),
        }
        return {"gateway": gateway, "models": [_status(parts, d) for d in deployments]}

    @api.get("/models/{name}/status", response_model=shapes.Status, responses=_READ, tags=["read"])
    async def status(name: str) -> Any:
        """Live, candidate, previous; what is wanted and what Envoy acknowledged."""
        await asyncio.to_thread(parts.registry.versions, name)  # 404 for a model nobody registered
        return _status(parts, await asyncio.to_thread(parts.store.deployment, name))

    @api.get("/models/{name}/history", response_model=shapes.History, responses=_READ, tags=["read"])
    def history(name: str, limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 100) -> Any:
        """Who did what when, and why; newest first."""
        return {"model": name, "events": [views.event_view(e) for e in parts.registry.history(name, limit)]}

    @api.get("/models/{name}/labels", response_model=shapes.Labels, responses=_READ, tags=["read"])
    def labels(name: str) -> Any:
        """The user's own labels; live, candidate, blue and green need no setting."""
        parts.registry.versions(name)
        return {"model": name, "labels": dict(parts.store.labels(name))}


def _commanding(api: APIRouter, parts: Parts) -> None:
    @api.post("/models/{name}/deploy", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def deploy(name: str, body: shapes.DeployBody | None = None) -> Any:
        """Make a version the candidate, or live when nothing is; answers once it is warm and routed."""
        said = body or shapes.DeployBody()
        done = await parts.commands.deploy(
            name, said.version, said.strategy, said.replicas, _operator(said), threads=said.threads
        )
        return _status(parts, done)

    @api.post("/models/{name}/weight", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def weight(name: str, body: shapes.WeightBody) -> Any:
        """Set the candidate's share of the traffic."""
        return _status(parts, await parts.commands.weight(name, body.percent, _operator(body)))

    @api.post("/models/{name}/drain", response_model=shapes.Status, responses=_COMMAND, tags=["command"])
    async def drain(name: str, body: shapes.DrainBody | None = None) -> Any:
        """Stop serving a version that is not live, or the whole model."""
        said = body or shapes.DrainBody()
        return _status(parts, await parts.commands.drain(name, said.version, _operator(said)))

    for verb, summary in _PLAIN.items():
        api.add_api_route(
            f"/models/{{name}}/{verb.value}",
            _plain(parts, verb),
            methods=["POST"],
            response_model=shapes.Status,
            responses=_COMMAND,
            summary=summary,
            name=verb.value,
            tags=["command"],
        )

    @api.delete(
        "/models/{name}/versions/{version}", response_model=shapes.Deleted, responses=_COMMAND, tags=["command"]
    )
    def delete(name: str, version: shapes.VersionNumber, actor: str = "unknown") -> Any:
        """Delete a version that is not deployed, and its package when no other version shares it."""
        parts.registry.delete(name, version, actor=actor[:1000])
        return {"model": name, "version": version, "deleted": True}

    @api.put("/models/{name}/labels/{label}", response_model=shapes.Labels, responses=_COMMAND, tags=["command"])
    async def set_label(name: str, label: shapes.Label, body: shapes.LabelBody) -> Any:
        """Point a label at a version; it routes while that version is deployed."""
        return await _label(parts, name, label, body.version, body.actor)

    @api.delete("/models/{name}/labels/{label}", response_model=shapes.Labels, responses=_COMMAND, tags=["command"])
    async def remove_label(name: str, label: shapes.Label, actor: str = "unknown") -> Any:
        """Forget a label."""
        return await _label(parts, name, label, None, actor[:1000])


_PLAIN = {
    Verb.PROMOTE: "Make the candidate live; the version before it stays warm for the undo window.",
    Verb.ABORT: "Return all traffic to the live version and give the candidate up. Never refused.",
    Verb.ROLLBACK: "Abort while there is a candidate, otherwise undo the last promotion.",
    Verb.UNDO: "Go back to the version that was live before the last promotion.",
    Verb.PAUSE: "Freeze an automatic rollout.",
    Verb.RESUME: "Continue a paused rollout.",
}


def _everything(parts: Parts) -> list[Deployment]:
    known = {d.model: d for d in parts.store.deployments()}
    return [known.get(name, Deployment(name)) for name in parts.registry.models()]


def _plain(parts: Parts, verb: Verb) -> Any:
    async def command(name: str, body: shapes.CommandBody | None = None) -> Any:
        said = body or shapes.CommandBody()
        return _status(parts, await parts.commands.plain(name, verb, _operator(said)))

    return command


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


def _operator(body: shapes.CommandBody | shapes.DrainBody) -> Operator:
    expected = body.expected_revision if isinstance(body, shapes.CommandBody) else None
    return Operator(body.actor or "unknown", body.reason, expected)


def _status(parts: Parts, deployment: Deployment) -> Any:
    return views.status_view(
        deployment,
        parts.fleet.workers(),
        parts.reconciler.applied_of(deployment.model),
        parts.reconciler.problem,
    )
