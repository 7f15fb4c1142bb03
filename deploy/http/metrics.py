"""What Prometheus asks for: the control plane's series, Envoy's and the workers' through this port, and where all
of them are.

Workers and Envoy's admin listen on Unix sockets only; Prometheus speaks TCP, so this process passes their text on.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from contracts.errors import Unavailable
from deploy.http import shapes
from deploy.http.errors import responses
from deploy.http.facts import Parts
from deploy.ports import WorkerState, WorkerStatus

READY = "ready"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}, "description": "Prometheus text."}}


def routes(parts: Parts) -> APIRouter:
    api = APIRouter(tags=["observe"])

    @api.get("/healthz", response_model=shapes.Health)
    async def healthz() -> Any:
        """The control plane lives. Says nothing about Envoy, whose short absence is no reason to restart anything."""
        return {"status": "ok"}

    @api.get("/readyz", response_model=shapes.Health, responses=responses(503))
    async def readyz() -> Any:
        """Envoy listens and has its routes; otherwise 503 says what is missing."""
        if (state := parts.envoy_state()) != READY:
            raise Unavailable(f"Envoy is not ready: {state}; ask again")
        if not await parts.envoy_ready():  # the state above is as old as the last look at the process
            raise Unavailable("Envoy runs and does not listen yet, or has no routes; ask again")
        return {"status": READY}

    @api.get("/metrics", response_class=Response, responses=_PLAIN_TEXT)
    def control_plane() -> Response:
        """The control plane's own series."""
        parts.telemetry.workers_seen(parts.fleet.workers())
        return Response(parts.telemetry.exposition(), media_type=TEXT)

    @api.get("/metrics/envoy", response_class=Response, responses=_PLAIN_TEXT | responses(503))
    async def envoy() -> Response:
        """Envoy's series."""
        return Response(await parts.envoy_metrics(), media_type=TEXT)

    @api.get("/metrics/workers/{worker_id}", response_class=Response, responses=_PLAIN_TEXT | responses(404, 503))
    async def worker(worker_id: str) -> Response:
        """One worker's series."""
        return Response(await parts.worker_metrics(worker_id), media_type=TEXT)

    @api.get("/api/v1/targets", response_model=list[shapes.Target])
    async def targets(request: Request) -> Any:
        """Prometheus http_sd: the control plane, Envoy and every worker, all scraped through this port."""
        # The name the caller used reaches this port; what we are bound to may be another one.
        here = request.headers.get("host") or f"127.0.0.1:{parts.admin_port}"
        found = [_target(here, "/metrics", "control"), _target(here, "/metrics/envoy", "envoy")]
        return found + [
            _target(here, f"/metrics/workers/{w.id}", "worker", w)
            for w in parts.fleet.workers()
            if w.state in (WorkerState.READY, WorkerState.DRAINING)  # the others have nothing to say yet
        ]

    return api


def _target(here: str, path: str, component: str, worker: WorkerStatus | None = None) -> dict[str, Any]:
    """`instance` tells the targets apart: all of them share one address."""
    instance = component if worker is None else worker.id
    labels = {"__metrics_path__": path, "component": component, "instance": instance, "job": f"teal-{component}"}
    return {"targets": [here], "labels": labels}
