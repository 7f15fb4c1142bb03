"""Makes the application of the operating port from the control plane's parts: API, metrics, errors, guard."""

from typing import Any

from fastapi import FastAPI

from deploy.http import api, commanding, errors, metrics, outcomes
from deploy.http.facts import Parts
from deploy.http.guard import Guard

VERSION = "1"


class OperatingApi(FastAPI):
    """FastAPI that documents what errors.py answers: a body that does not fit is 400 here, never 422."""

    def openapi(self) -> dict[str, Any]:
        spec = super().openapi()
        for path in spec["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            spec["components"]["schemas"].pop(unused, None)
        return spec


def application(parts: Parts) -> FastAPI:
    app = OperatingApi(
        title="Teal",
        version=VERSION,
        description="Deploy model versions and move traffic between them. Errors are one sentence and a stable code.",
        redoc_url=None,
    )
    errors.install(app)
    app.include_router(metrics.routes(parts))
    app.include_router(api.routes(parts))
    app.include_router(commanding.routes(parts))
    app.include_router(outcomes.routes(parts))
    # Outermost, so that nothing of a refused request is even routed.
    app.add_middleware(Guard, hosts=parts.hosts)
    return app
