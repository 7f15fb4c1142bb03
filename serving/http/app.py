"""The worker's application: from a path to an answer, without a framework on the way.

`_predict` is the table of contents of a prediction: deadline, body, decode, compute, encode, answer. It speaks ASGI.
`predict_at_once` is the same without a wait in it, for what costs less than waiting would; wire.py calls it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from contracts.clock import Clock
from contracts.errors import Internal, TealError, Unavailable
from contracts.limits import Limits
from contracts.metrics import Outcome
from contracts.names import HEADER_COLOR, HEADER_MODEL, HEADER_REQUEST_ID, HEADER_VERSION
from serving.batching.batcher import MicroBatcher
from serving.batching.tickets import Outputs
from serving.http.answers import CLOSE, JSON, Answer, Header, error_answer, error_body
from serving.http.dialects import Dialects, Reading, V1Image
from serving.http.errors import outcome_of, rejected_reason
from serving.http.incoming import ClientGone, Head, Receive, read_body, request_id, seconds_allowed, was_tried_before
from serving.http.pages import Pages
from serving.http.routes import PREDICTIONS, Page, WrongVerb, hot_paths, resolve
from serving.state import Identity, Stage, State
from serving.telemetry import Telemetry

Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)
_REQUEST_ID = HEADER_REQUEST_ID.encode()
_SHORT_WAY_PAUSE = 0.05  # seconds; one request in that time finds out anew, at the price of a second decoding
_LEAVING = (Stage.DRAINING, Stage.BROKEN)


@dataclass(frozen=True)
class Served:
    """A loaded, warm model: what predictions need."""

    dialects: Dialects
    batcher: MicroBatcher


class App:
    """One version of one model over HTTP. `served` is set once the model is warm; until then predictions get 503."""

    def __init__(
        self, *, identity: Identity, state: State, telemetry: Telemetry, clock: Clock, limits: Limits, pages: Pages
    ) -> None:
        self.served: Served | None = None
        self.now = clock.monotonic
        self.short_way_from = 0.0  # monotonic seconds from when `predict_at_once` is worth trying
        self._identity = identity
        self._version = str(identity.version)
        self._state = state
        self._telemetry = telemetry
        self._clock = clock
        self._limits = limits
        self._pages = pages
        self._hot = hot_paths(identity.model, identity.version)
        self.hot = {path.encode(): page for path, page in self._hot.items()}
        self._headers: tuple[Header, ...] = (
            (HEADER_MODEL.encode(), identity.model.encode()),
            (HEADER_VERSION.encode(), self._version.encode()),
            (HEADER_COLOR.encode(), identity.color.value.encode()),
        )

        plain = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in self._headers)]
        plain += [_REQUEST_ID + b": %b", b"content-type: " + JSON, b"content-length: %d", b"", b""]
        self._plain = b"\r\n".join(plain)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, got {scope['type']}")
        head: Head = dict(scope["headers"])
        page = self._hot.get(scope["path"])
        if page is not None and scope["method"] == "POST":
            await self._predict(page, head, receive, send)
        else:
            await self._other(scope["method"], scope["path"], head, receive, send)

    def predict_at_once(self, page: Page, head: Head, body: bytes, started: float) -> Answer | None:
        """A whole prediction without a wait, or None, and nothing counted, when it has to queue."""
        try:
            served = self._ready()
            deadline = started + seconds_allowed(head, self._limits)
            dialect = served.dialects.spoken(page, head)
            if isinstance(dialect, V1Image):
                return None
            reading = dialect.read(head, body)
            if reading.timeout is not None:
                deadline = min(deadline, started + reading.timeout)
            outputs = served.batcher.compute_now(reading.signature, reading.inputs, reading.rows, deadline)
            if outputs is None:
                # This model's runs are worth waiting for, or one is under way: do not decode twice for a while.
                self.short_way_from = started + _SHORT_WAY_PAUSE
                return None
            good = reading.answer(outputs)
        except TealError as error:
            answer = self._refusal(error)
        except Exception as error:
            answer = self._surprise(error)
        else:
            self._telemetry.answered_well(reading.rows, self.now() - started)
            return good
        self._telemetry.answered(outcome_of(answer.status), self.now() - started)
        return answer

    async def _predict(self, page: Page, head: Head, receive: Receive, send: Send) -> None:
        started = self._clock.monotonic()
        try:
            served = self._ready()
            allowed = seconds_allowed(head, self._limits)
            dialect = served.dialects.spoken(page, head)
            body = await read_body(receive, head, dialect.body_limit, allowed)
            if isinstance(dialect, V1Image):
                reading = await dialect.read_aside(body, started + allowed - self._clock.monotonic())
            else:
                reading = dialect.read(head, body)
            if reading.timeout is not None:
                allowed = min(allowed, reading.timeout)
            call = _Call(started + allowed, receive, was_tried_before(head))
            answer = reading.answer(await self._compute(served.batcher, reading, call))
        except ClientGone:
            self._telemetry.answered(Outcome.CANCELLED, self._clock.monotonic() - started)
            return
        except TealError as error:
            answer = self._refusal(error)
        except Exception as error:
            answer = self._surprise(error)
        self._telemetry.answered(outcome_of(answer.status), self._clock.monotonic() - started)
        await self._send(send, head, answer)

    async def _compute(self, batcher: MicroBatcher, reading: Reading, call: "_Call") -> Outputs:
        """Outputs of a decoded request: at once where that is cheapest, otherwise through the queue. Whoever was with a
        worker that may have died of it is never computed at once."""
        self._telemetry.rows += reading.rows
        signature, inputs, rows = reading.signature, reading.inputs, reading.rows
        outputs = None if call.retried else batcher.compute_now(signature, inputs, rows, call.deadline)
        if outputs is not None:
            return outputs
        future = batcher.submit(signature, inputs, rows, call.deadline, retried=call.retried)
        watcher = asyncio.get_running_loop().create_task(_leave_with(call.receive, future))
        try:
            return await future
        except asyncio.CancelledError:
            if watcher.done():
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    def _surprise(self, error: Exception) -> Answer:
        _log.error("a prediction failed in a way nobody foresaw", exc_info=error)
        return self._refusal(Internal(f"something went wrong in this worker: {type(error).__name__}"))

    def _refusal(self, error: TealError) -> Answer:
        if (reason := rejected_reason(error)) is not None:
            self._telemetry.refused(reason)
        return error_answer(error)

    async def _other(self, method: str, path: str, head: Head, receive: Receive, send: Send) -> None:
        """Everything that is not on a hot path: other spellings of predictions, and the pages about the model."""
        try:
            page = resolve(method, path, self._identity.model, self._identity.version)
            if page in PREDICTIONS:
                await self._predict(page, head, receive, send)
                return
            answer = self._pages.render(page)
        except WrongVerb as wrong:
            body = error_body(f"this path is for {wrong.allowed}, got {method[:20]}")
            answer = Answer(405, body, headers=((b"allow", wrong.allowed.encode()),))
        except TealError as error:
            answer = error_answer(error)
        await self._send(send, head, answer)

    def _ready(self) -> Served:
        if self.served is None or self._state.stage is Stage.BROKEN:
            raise Unavailable(f"this worker is not ready: {self._state.reason}")
        return self.served

    def plain_head(self, head: Head, answer: Answer) -> bytes | None:
        """Status line and headers of an ordinary good answer in one piece; None when there is anything special."""
        if answer.status != 200 or answer.headers or answer.content_type != JSON or self._state.stage in _LEAVING:
            return None
        return self._plain % (request_id(head), len(answer.body))

    def headers_of(self, head: Head, answer: Answer) -> list[Header]:
        """Every header of an answer to a request with these headers."""
        headers = [
            *self._headers,
            (_REQUEST_ID, request_id(head)),
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            *answer.headers,
        ]
        if self._state.stage in _LEAVING and CLOSE not in answer.headers:
            headers.append(CLOSE)  # the next request of this connection had better go elsewhere
        return headers

    async def _send(self, send: Send, head: Head, answer: Answer) -> None:
        headers = self.headers_of(head, answer)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


class _Call(NamedTuple):
    """The caller's side of a request: until when (monotonic), where news of the caller comes from, and whether another
    worker had it before."""

    deadline: float
    receive: Receive
    retried: bool


async def _leave_with(receive: Receive, future: "asyncio.Future[Outputs]") -> None:
    """Cancel the caller's ticket when the caller hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    future.cancel()
