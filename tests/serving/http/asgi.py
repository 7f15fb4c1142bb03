"""A client without sockets: one request into the ASGI application, one answer out."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from contracts.clock import Clock, SystemClock
from contracts.limits import LIMITS, Limits
from contracts.names import Color
from contracts.package import Lineage, Manifest
from contracts.preprocessing import Preprocessing
from contracts.signature import Signature
from serving.batching.batcher import MicroBatcher
from serving.engine.base import Engine
from serving.engine.thread import EngineThread
from serving.http.app import App, Served
from serving.http.dialects import Dialects
from serving.http.pages import Pages
from serving.http.pictures import open_pictures
from serving.memory import Memory
from serving.state import Identity, Stage, State
from serving.telemetry import Telemetry
from tests.serving.engines import HALF_PLUS_TWO, half_plus_two

IDENTITY = Identity("half_plus_two", 123, Color.GREEN, "d" * 64)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Talks to one App. `hang_up` in `send` makes the client leave once its body was read."""

    def __init__(self, app: App, state: State, telemetry: Telemetry) -> None:
        self.app, self.state, self.telemetry = app, state, telemetry

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: dict[str, str] | None = None,
        hang_up: asyncio.Event | None = None,
    ) -> Answer | None:
        chunks = [body] if isinstance(body, bytes) else list(body)
        sent: list[dict[str, Any]] = []
        head = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]

        async def receive() -> dict[str, Any]:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            if hang_up is None:
                await asyncio.get_running_loop().create_future()
            else:
                await hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": head}
        await self.app(scope, receive, send)
        if not sent:
            return None
        start, content = sent
        answered = {k.decode(): v.decode() for k, v in start["headers"]}
        assert int(answered["content-length"]) == len(content["body"])
        return Answer(start["status"], answered, content["body"])

    async def ask(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        payload = body if isinstance(body, bytes | list) else json.dumps(body).encode()
        answer = await self.send(method, path, payload, headers)
        assert answer is not None
        return answer

    async def predict(self, body: Any, path: str = "/v1/models/half_plus_two:predict") -> Answer:
        return await self.ask("POST", path, body)


@asynccontextmanager
async def serving(
    engine: Engine | None = None,
    signatures: tuple[Signature, ...] = (HALF_PLUS_TWO,),
    *,
    limits: Limits = LIMITS,
    clock: Clock | None = None,
    cost: float = 10e-6,
    loaded: bool = True,
    preprocessing: Preprocessing | None = None,
) -> AsyncIterator[Client]:
    """A worker's application around an engine, half_plus_two unless another is given. `cost` seconds per run decide
    whether it computes at once or in a thread."""
    clock = clock or SystemClock()
    state, telemetry = State(), Telemetry(IDENTITY)
    pages = Pages(identity=IDENTITY, state=state, telemetry=telemetry, release="1")
    app = App(identity=IDENTITY, state=state, telemetry=telemetry, clock=clock, limits=limits, pages=pages)
    buckets = (1, 2, 4, 8)
    batcher = MicroBatcher(
        engine=engine or half_plus_two(),
        signatures=signatures,
        buckets=buckets,
        clock=clock,
        limits=limits,
        facts=telemetry,
        executor=EngineThread(),
        on_hang=lambda: None,
    )
    for curve in batcher.curves.values():
        for bucket in curve.buckets:
            curve.learn(bucket, cost)
        curve.learn = lambda bucket, seconds: None  # type: ignore[method-assign]  # the price list stays
    batcher.start()
    if loaded:
        pages.manifest = replace(manifest(signatures), preprocessing=preprocessing)
        pictures = open_pictures(pages.manifest, limits)
        memory = Memory(signatures, limits, clock)
        app.served = Served(Dialects(IDENTITY, signatures, limits, pictures), batcher, memory)
        state.move(Stage.READY, "serving")
    try:
        yield Client(app, state, telemetry)
    finally:
        await batcher.close()


def manifest(signatures: tuple[Signature, ...]) -> Manifest:
    return Manifest("test", "0" * 64, "litert", (), signatures, (1, 2, 4, 8), None, (), Lineage(), "now", {})


def run(story: Callable[[Client], Any], *args: Any, **kwargs: Any) -> Any:
    """Run an async story with a client."""

    async def main() -> Any:
        async with serving(*args, **kwargs) as client:
            return await story(client)

    return asyncio.run(main())
