"""uvicorn as the worker uses it: one listening socket, no signals of its own, no framework, no access log."""

import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn

from serving.http.wire import PredictionProtocol

_KEEP_ALIVE_SECONDS = 75  # longer than Envoy keeps an idle connection, so that Envoy is the one who closes


class WorkerServer(uvicorn.Server):
    """Serves `app` until `stop`. Signals are the worker's business."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PredictionProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                server_header=False,
                date_header=False,
                access_log=False,
                log_config=None,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )

    async def serve_on(self, listening: socket.socket) -> None:
        """Accept on `listening` until `stop`, then finish what is in flight."""
        await self.serve(sockets=[listening])

    def stop(self, seconds: float) -> None:
        """Stop accepting; requests in flight have `seconds` to finish and are cut off then."""
        self.config.timeout_graceful_shutdown = max(1, round(seconds))
        self.should_exit = True

    def stop_now(self) -> None:
        """Stop waiting for requests in flight."""
        self.should_exit = True
        self.force_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signal handlers as the worker set them."""
        yield
