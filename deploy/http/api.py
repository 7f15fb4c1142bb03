"""The operating API: routes that read what the control plane knows, beside those that command (commanding.py).

No judgement here: a route finds the parts, asks, and renders. Errors rise to errors.py.
"""

import asyncio
import os
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from contracts.package import manifest_to_json
from deploy import views
from deploy.http import commanding, shapes
from deploy.http.errors import responses
from deploy.http.facts import Parts, status_of
from deploy.rollout.deployment import Deployment
from deploy.store.store import HISTORY_MAX

_READ = responses(400, 404, 500)


def routes(parts: Parts) -> APIRouter:
    """Everything that only reads under /api/v1."""
    api = APIRouter(prefix="/api/v1")
    _reading(api, parts)
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
        return {"gateway": gateway, "models": [status_of(parts, d) for d in deployments]}

    @api.get("/models/{name}/status", response_model=shapes.Status, responses=_READ, tags=["read"])
    async def status(name: str, response: Response) -> Any:
        """Live, candidate, previous; what is wanted and what Envoy acknowledged; the evidence. ETag: its revision."""
        await asyncio.to_thread(parts.registry.versions, name)  # 404 for a model nobody registered
        deployment = await asyncio.to_thread(parts.store.deployment, name)
        response.headers["etag"] = commanding.etag(deployment)
        return status_of(parts, deployment)

    @api.get("/models/{name}/history", response_model=shapes.History, responses=_READ, tags=["read"])
    def history(name: str, limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 100) -> Any:
        """Who did what when, and why; newest first."""
        return {"model": name, "events": [views.event_view(e) for e in parts.registry.history(name, limit)]}

    @api.get("/models/{name}/labels", response_model=shapes.Labels, responses=_READ, tags=["read"])
    def labels(name: str) -> Any:
        """The user's own labels; live, candidate, blue and green need no setting."""
        parts.registry.versions(name)
        return {"model": name, "labels": dict(parts.store.labels(name))}


def _everything(parts: Parts) -> list[Deployment]:
    known = {d.model: d for d in parts.store.deployments()}
    return [known.get(name, Deployment(name)) for name in parts.registry.models()]
