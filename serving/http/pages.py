"""The answers that are not predictions: health, status, metadata, metrics, and what this worker is."""

import os
from typing import Any

from contracts.errors import NotFound, Unavailable
from contracts.package import Manifest
from contracts.sizing import Sizing
from serving.codec import v1_metadata, v1_proto_metadata, v2, v2_proto
from serving.codec.render import dump
from serving.http.answers import Answer
from serving.http.routes import Page
from serving.state import Identity, Stage, State
from serving.telemetry import CONTENT_TYPE, Telemetry

# The worker's stage in TensorFlow Serving's words.
_V1_STATES = {
    Stage.STARTING: "LOADING",
    Stage.READY: "AVAILABLE",
    Stage.DRAINING: "AVAILABLE",
    Stage.BROKEN: "END",
}


class Pages:
    """Renders pages from what is known now. `manifest` is set once the package is verified."""

    def __init__(self, *, identity: Identity, state: State, telemetry: Telemetry, release: str) -> None:
        self.manifest: Manifest | None = None
        self.threads: Sizing | None = None
        self._identity = identity
        self._state = state
        self._telemetry = telemetry
        self._release = release

    def render(self, page: Page) -> Answer:
        """Raises Unavailable for pages about the model while there is none."""
        model, version = self._identity.model, self._identity.version
        ready = self._state.stage is Stage.READY
        match page:
            case Page.LIVE:
                return _json({"live": True})
            case Page.READY:
                return _json({"ready": ready}, 200 if ready else 503)
            case Page.V2_MODEL_READY:
                return _json({"name": model, "ready": ready}, 200 if ready else 503)
            case Page.V2_SERVER:
                return _json({"name": "teal", "version": self._release, "extensions": ["binary_tensor_data"]})
            case Page.METRICS:
                return Answer(200, self._telemetry.exposition(), CONTENT_TYPE.encode())
            case Page.WORKER:
                return _json(self._worker())
            case Page.V1_STATUS:
                return _json(v1_metadata.status(version, _V1_STATES[self._state.stage]))
            case Page.V1_METADATA:
                return _json(v1_metadata.metadata(model, version, self._loaded().signatures))
            case Page.V2_MODEL:
                signature = v2.default_signature(self._loaded().signatures)
                return _json(v2.metadata(model, version, signature))
            case _:
                raise AssertionError(f"{page} is a prediction, not a page")

    def render_rpc(self, page: Page, message: memoryview) -> bytes:
        """The message that answers a gRPC call about the model. Raises InvalidInput; Unavailable as `render`; NotFound
        for what no method asks for."""
        model, version = self._identity.model, self._identity.version
        match page:
            case Page.V2_MODEL_READY:
                return v2_proto.ready(is_ready=self._state.stage is Stage.READY)
            case Page.V1_STATUS:
                return v1_proto_metadata.status(version, _V1_STATES[self._state.stage])
            case Page.V1_METADATA:
                return v1_proto_metadata.metadata(model, version, self._loaded().signatures, message)
            case Page.V2_MODEL:
                return v2_proto.metadata(model, version, v2.default_signature(self._loaded().signatures))
            case _:
                raise NotFound("no gRPC method asks for this path")

    def _worker(self) -> dict[str, Any]:
        return {
            "model": self._identity.model,
            "version": self._identity.version,
            "color": self._identity.color.value,
            "digest": self._identity.digest,
            "plan": self.manifest.plan if self.manifest is not None else None,
            "threads": None if self.threads is None else {"count": self.threads.count, "reason": self.threads.reason},
            "pid": os.getpid(),
            "state": self._state.stage.value,
            "reason": self._state.reason,
            "suspicion": self._telemetry.suspicion,
        }

    def _loaded(self) -> Manifest:
        if self.manifest is None:
            raise Unavailable(f"this worker is not ready: {self._state.reason}")
        return self.manifest


def _json(value: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, dump(value))
