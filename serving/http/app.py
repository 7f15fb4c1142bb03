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
from serving.http import recall
from serving.http.answers import CHUNKED, CLOSE, JSON, Answer, Header, error_answer, error_body
from serving.http.dialects import Dialects, V1Image
from serving.http.errors import outcome_of, rejected_reason, status_of
from serving.http.incoming import ClientGone, Head, Receive, read_body, request_id, seconds_allowed, was_tried_before
from serving.http.pages import Pages
from serving.http.reading import Reading
from serving.http.routes import PREDICTIONS, Page, WrongVerb, hot_paths, resolve
from serving.http.rpc import FRAME_BYTES, GRPC, OK, message_answer, refusal, speaks_grpc, unframed
from serving.memory import Memory
from serving.state import Identity, Stage, State
from serving.telemetry import Telemetry

Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)
_REQUEST_ID = HEADER_REQUEST_ID.encode()
_SHORT_WAY_PAUSE = 0.05  # seconds; one request in that time finds out anew, at the price of a second decoding
_LEAVING = (Stage.DRAINING, Stage.BROKEN)


@dataclass(frozen=True)
class Served:
    """A loaded, warm model: what predictions need, and where answers are remembered."""

    dialects: Dialects
    batcher: MicroBatcher
    memory: Memory


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

        plain = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in self._headers), _REQUEST_ID + b": %b"]
        as_json = [b"content-type: " + JSON, b"content-length: %d", b"", b"%b"]
        as_grpc = [b"content-type: " + GRPC, b"transfer-encoding: chunked", b"", b"%x", b"%b", b"0"]
        as_grpc += [*(name + b": " + value for name, value in OK), b"", b""]
        self._plain = {JSON: b"\r\n".join(plain + as_json), GRPC: b"\r\n".join(plain + as_grpc)}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, got {scope['type']}")
        head: Head = dict(scope["headers"])
        page = self._hot.get(scope["path"])
        if page is not None and scope["method"] == "POST":
            await self._predict(page, head, receive, send)
        else:
            await self._other(scope, head, receive, send)

    def predict_at_once(self, page: Page, head: Head, body: bytes, started: float) -> Answer | None:
        """A whole prediction without a wait, or None, and nothing counted, when it has to queue."""
        try:
            served = self._ready()
            deadline = started + seconds_allowed(head, self._limits)
            served.batcher.check_room(deadline)
            dialect = served.dialects.spoken(page, head)
            if isinstance(dialect, V1Image) or started < self.short_way_from:
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
            if isinstance(good, Reading):
                return None
        except TealError as error:
            return self._refusal(head, error, started)
        except Exception as error:
            return self._surprise(head, error, started)
        ended = self.now()
        self._telemetry.answered_well(reading.rows, ended - started)
        served.memory.keep(head.get(_REQUEST_ID), ended, reading.signature, reading.rows, outputs)
        return good

    def worth_a_try(self, started: float) -> bool:
        """Whether `predict_at_once` may answer a request of this moment: computed, or refused because others wait."""
        return started >= self.short_way_from or (self.served is not None and self.served.batcher.queued_rows > 0)

    def departed(self, started: float) -> None:
        """Count a caller of the short way who left before the body had arrived."""
        self._telemetry.answered(Outcome.CANCELLED, self.now() - started)

    async def _predict(self, page: Page, head: Head, receive: Receive, send: Send) -> None:
        started = self._clock.monotonic()
        try:
            served = self._ready()
            allowed = seconds_allowed(head, self._limits)
            served.batcher.check_room(started + allowed)
            dialect = served.dialects.spoken(page, head)
            body = await read_body(receive, head, dialect.body_limit, allowed)
            if isinstance(dialect, V1Image):
                reading = await dialect.read_aside(body, started + allowed - self._clock.monotonic())
            else:
                reading = dialect.read(head, body)
            if reading.timeout is not None:
                allowed = min(allowed, reading.timeout)
            call = _Call(started + allowed, receive, was_tried_before(head))
            outputs = await self._compute(served.batcher, reading, call)
            answer = reading.answer(outputs)
            while isinstance(answer, Reading):
                answer = answer.answer(await self._compute(served.batcher, answer, call))
        except ClientGone:
            self._telemetry.answered(Outcome.CANCELLED, self._clock.monotonic() - started)
            return
        except TealError as error:
            answer = self._refusal(head, error, started)
        except Exception as error:
            answer = self._surprise(head, error, started)
        else:
            ended = self._clock.monotonic()
            self._telemetry.answered(Outcome.OK, ended - started)
            served.memory.keep_cut(head.get(_REQUEST_ID), ended, reading.signature, reading.rows, outputs)
        await self._send(send, head, answer)

    async def _compute(self, batcher: MicroBatcher, reading: Reading, call: "_Call") -> Outputs:
        """Outputs of a decoded request: at once where that is cheapest, otherwise through the queue. Whoever was with a
        worker that may have died of it is never computed at once."""
        self._telemetry.rows += reading.rows
        signature, inputs, rows = reading.signature, reading.inputs, reading.rows
        outputs = None if call.retried else batcher.compute_now(signature, inputs, rows, call.deadline)
        if outputs is not None:
            return outputs
        retried, priority = call.retried, reading.priority
        future = batcher.submit(signature, inputs, rows, call.deadline, retried=retried, priority=priority)
        watcher = asyncio.get_running_loop().create_task(_leave_with(call.receive, future))
        try:
            return await future
        except asyncio.CancelledError:
            if watcher.done():
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    def _surprise(self, head: Head, error: Exception, started: float) -> Answer:
        _log.error("a prediction failed in a way nobody foresaw", exc_info=error)
        return self._refusal(head, Internal(f"something went wrong in this worker: {type(error).__name__}"), started)

    def _refusal(self, head: Head, error: TealError, started: float) -> Answer:
        """The answer to a prediction that ends with this error, which is counted."""
        if (reason := rejected_reason(error)) is not None:
            self._telemetry.refused(reason)
        self._telemetry.answered(outcome_of(status_of(error)), self._clock.monotonic() - started)
        return refusal(error) if speaks_grpc(head) else error_answer(error)

    async def _other(self, scope: dict[str, Any], head: Head, receive: Receive, send: Send) -> None:
        """Everything that is not on a hot path: other spellings of predictions, and the pages about the model."""
        method, path = scope["method"], scope["path"]
        rpc = method == "POST" and speaks_grpc(head)
        try:
            page = resolve(method, path, self._identity.model, self._identity.version, rpc=rpc)
            if page in PREDICTIONS:
                await self._predict(page, head, receive, send)
                return
            if rpc:
                answer = await self._rpc_page(page, head, receive)
            elif page is Page.ANSWERS:
                answer = await self._recall(method, scope["query_string"], head, receive)
            else:
                answer = self._pages.render(page)
        except ClientGone:
            return
        except WrongVerb as wrong:
            body = error_body(f"this path is for {wrong.allowed}, got {method[:20]}")
            answer = Answer(405, body, headers=((b"allow", wrong.allowed.encode()),))
        except TealError as error:
            answer = refusal(error) if rpc else error_answer(error)
        await self._send(send, head, answer)

    async def _rpc_page(self, page: Page, head: Head, receive: Receive) -> Answer:
        limits = self._limits
        body = await read_body(receive, head, limits.json_body + FRAME_BYTES, seconds_allowed(head, limits))
        return message_answer(self._pages.render_rpc(page, unframed(body, limits.json_body)))

    async def _recall(self, method: str, query: bytes, head: Head, receive: Receive) -> Answer:
        """What was answered lately: to these ids, or since some moment."""
        memory = self._ready().memory
        if method == "GET":
            return recall.answers_since(memory, query)
        limits = self._limits
        body = await read_body(receive, head, limits.json_body, seconds_allowed(head, limits))
        return recall.answers_to(memory, body)

    def _ready(self) -> Served:
        if self.served is None or self._state.stage is Stage.BROKEN:
            raise Unavailable(f"this worker is not ready: {self._state.reason}")
        return self.served

    def plain(self, head: Head, answer: Answer) -> bytes | None:
        """All bytes of an ordinary good answer in one piece; None when there is anything special about it."""
        if answer.status != 200 or answer.headers or self._state.stage in _LEAVING:
            return None
        whole = self._plain.get(answer.content_type)
        return None if whole is None else whole % (request_id(head), len(answer.body), answer.body)

    def headers_of(self, head: Head, answer: Answer) -> list[Header]:
        """Every header of an answer to a request with these headers."""
        headers = [
            *self._headers,
            (_REQUEST_ID, request_id(head)),
            (b"content-type", answer.content_type),
            CHUNKED if answer.trailers else (b"content-length", b"%d" % len(answer.body)),
            *answer.headers,
        ]
        if self._state.stage in _LEAVING and CLOSE not in answer.headers:
            headers.append(CLOSE)  # the next request of this connection had better go elsewhere
        return headers

    async def _send(self, send: Send, head: Head, answer: Answer) -> None:
        headers = self.headers_of(head, answer)
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send({**start, "trailers": True} if answer.trailers else start)
        await send({"type": "http.response.body", "body": answer.body})
        if answer.trailers:  # ASGI's extension for them; wire.py has it
            await send({"type": "http.response.trailers", "headers": answer.trailers})


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
