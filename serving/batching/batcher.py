"""The micro-batcher: every caller is answered exactly once, with the outputs of its own rows.

Work-conserving: what gathered while the engine was busy leaves when the engine is free. How much leaves and what it
will cost is `policy`; joining and cutting is `assemble`; who waits is `queue`. Here are the futures, the deadlines and
the order of things. Everything runs on one event loop, except the engine's own run, which may be in one thread.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from contracts.clock import Clock
from contracts.errors import DeadlineExceeded, Internal, Overloaded, TealError, TooLarge, Unavailable
from contracts.limits import Limits
from contracts.signature import Signature
from serving.batching.assemble import check_rows, cut, join, shape_key, split
from serving.batching.policy import BisectBudget, CostCurve, Load, Route, expected_wait, route
from serving.batching.queue import Queue
from serving.batching.tickets import Outputs, Part, Ticket
from serving.engine.base import Engine

_log = logging.getLogger(__name__)


class BatchFacts(Protocol):
    """What the batcher tells; telemetry counts it."""

    def ran(self, rows: int, padding: int, seconds: float, ok: bool) -> None:
        """One engine run ended."""

    def waited(self, seconds: float) -> None:
        """A caller's rows got their turn after this long."""


class MicroBatcher:
    """Feeds one engine. `start` before the first request, `close` after the last.

    executor   one thread, for runs that are longer than a thread hop
    on_hang    called once, on the loop, when a run is taken for dead
    """

    def __init__(
        self,
        *,
        engine: Engine,
        signatures: Sequence[Signature],
        buckets: Sequence[int],
        clock: Clock,
        limits: Limits,
        facts: BatchFacts,
        executor: Executor,
        on_hang: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._facts = facts
        self._executor = executor
        self._on_hang = on_hang
        self.curves = {s.name: CostCurve(buckets if s.batched else (1,)) for s in signatures}
        self._budget = BisectBudget(buckets[-1])
        self._queue = Queue()
        self._tickets: set[Ticket] = set()
        self._sequence = 0
        self._wake = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0.0
        self._run_started: float | None = None  # of a run in the engine thread
        self._run_cost = 0.0
        self._hang_at = 0.0
        self._closed = False

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

    def start(self) -> None:
        """Begin to serve. Needs a running event loop."""
        self._driver = asyncio.get_running_loop().create_task(self._drive(), name="batcher")

    async def close(self) -> None:
        """Answer everybody who waits with Unavailable and stop. A run in the engine thread is left to itself."""
        self._closed = True
        for ticket in list(self._tickets):
            ticket.fail(Unavailable("this worker is stopping; send the request again"))
        tasks = [task for task in (self._driver, self._alarm) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def compute_now(self, signature: Signature, inputs: Outputs, rows: int, deadline: float) -> Outputs | None:
        """The short way for runs that cost less than any hand-over: compute here and now, or return None when the
        request has to be submitted. Raises what `submit`'s future would."""
        curve = self.curves[signature.name]
        if self._run_started is not None or self._closed or rows > curve.buckets[-1]:
            return None
        if route(curve, rows) is not Route.SOLO:
            return None
        now = self._clock.monotonic
        started = now()
        if started >= deadline:
            raise _expired()
        try:
            outputs = self._engine.run(signature.name, inputs)
            if signature.batched:
                check_rows(outputs, rows)
        except Exception as error:
            self._learn(signature, curve, rows, now() - started, ok=False)
            raise _failure(signature, error) from error
        self._learn(signature, curve, rows, now() - started, ok=True)
        self._facts.waited(0.0)
        return outputs

    def submit(self, signature: Signature, inputs: Outputs, rows: int, deadline: float) -> "asyncio.Future[Outputs]":
        """Queue a request; the future answers with its outputs, or raises DeadlineExceeded, Unavailable or Internal.
        Cancel it when the caller leaves. Refuses at once: Overloaded, TooLarge, DeadlineExceeded, Unavailable."""
        now = self._clock.monotonic()
        curve = self.curves[signature.name]
        size = sum(array.nbytes for array in inputs.values())
        self._admit(curve, rows, size, now, deadline)
        pieces = [(inputs, rows)] if rows <= curve.buckets[-1] else split(inputs, rows, curve.buckets[-1])
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        ticket = Ticket(future, now, deadline, len(pieces), rows, size)
        key = shape_key(signature.name, inputs)
        for index, (piece, count) in enumerate(pieces):
            self._sequence += 1
            self._queue.put(Part(ticket, index, self._sequence, signature, key, piece, count))
        self._queue.admit(ticket)
        self._tickets.add(ticket)
        future.add_done_callback(lambda _: self._settle(ticket))
        self._arm(deadline)
        self._wake.set()
        return future

    def _admit(self, curve: CostCurve, rows: int, size: int, now: float, deadline: float) -> None:
        limits = self._limits
        if self._closed:
            raise Unavailable("this worker is stopping; send the request again")
        if now >= deadline:
            raise _expired()
        if rows > limits.queue_rows or size > limits.queue_bytes:
            raise TooLarge(
                f"the request has {rows} rows in {size} bytes; at most {limits.queue_rows} rows in "
                f"{limits.queue_bytes} bytes can wait: send several smaller ones"
            )
        running_for = now - self._run_started if self._run_started is not None else 0.0
        wait = expected_wait(curve, Load(self._queue.rows, running_for, self._run_cost))
        if self._queue.rows + rows > limits.queue_rows or self._queue.size + size > limits.queue_bytes:
            raise Overloaded(f"the queue is full: {self._queue.rows} rows are waiting", retry_after=max(wait, 1.0))
        # A request that finds nobody before it is always tried: only runs can correct an estimate that is wrong.
        if self._tickets and (now + wait > deadline or wait > limits.queue_seconds):
            raise Overloaded(
                f"the queue is {wait:.2f} s long, more than this request can wait", retry_after=max(wait, 1.0)
            )

    def _settle(self, ticket: Ticket) -> None:
        """A ticket was answered or its caller left."""
        self._tickets.discard(ticket)
        self._queue.forget(ticket)

    async def _drive(self) -> None:
        """Take what waits, compute it, answer; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (head := self._queue.oldest()) is not None:
                parts = self._queue.take(head, self.curves[head.signature.name])
                now = self._clock.monotonic()
                for part in parts:
                    if part.index == 0:
                        self._facts.waited(now - part.ticket.arrived)
                if (error := await self._attempt(parts)) is not None:
                    await self._isolate(parts, error)
                await asyncio.sleep(0)  # what arrived during a run on the loop gets its turn to queue up

    async def _attempt(self, parts: Sequence[Part]) -> Exception | None:
        """One run of those parts that are still wanted. Answers their callers and returns None, or answers nobody and
        returns what the engine raised. Rows that cannot be told apart fail here, all of them."""
        now = self._clock.monotonic()
        for part in parts:
            if part.ticket.deadline <= now:
                part.ticket.fail(_expired())
        parts = [part for part in parts if not part.ticket.future.done()]
        if not parts:
            return None
        signature, rows = parts[0].signature, sum(part.rows for part in parts)
        try:
            outputs = await self._run(signature, join([part.inputs for part in parts]), rows)
            pieces = cut(outputs, [part.rows for part in parts]) if signature.batched else [outputs]
        except Internal as error:
            _log.error("%s", error.message)
            for part in parts:
                part.ticket.fail(error)
            return None
        except Exception as error:  # whatever the model's runtime raises is the answer to somebody
            return error
        for part, piece in zip(parts, pieces, strict=True):
            part.ticket.answer(part.index, piece)
        return None

    async def _run(self, signature: Signature, inputs: Outputs, rows: int) -> Outputs:
        """One engine run, on the loop or in the thread, timed and told."""
        curve = self.curves[signature.name]
        started = self._clock.monotonic()
        seconds: float | None = None
        try:
            if route(curve, rows) is Route.THREAD:
                self._run_started, self._run_cost = started, curve.seconds(rows)
                self._hang_at = started + curve.hang_after()
                self._arm(self._hang_at)
                loop = asyncio.get_running_loop()
                run = loop.run_in_executor(self._executor, self._timed, signature.name, inputs)
                outputs, took = await run
            else:
                outputs, took = self._timed(signature.name, inputs)
            if signature.batched:
                check_rows(outputs, rows)
            seconds = took
        finally:
            self._run_started, self._run_cost = None, 0.0
            ok = seconds is not None
            self._learn(
                signature, curve, rows, self._clock.monotonic() - started if seconds is None else seconds, ok=ok
            )
        return outputs

    def _timed(self, signature: str, inputs: Outputs) -> tuple[Outputs, float]:
        """The run and its seconds, without the way into the thread and back."""
        started = self._clock.monotonic()
        outputs = self._engine.run(signature, inputs)
        return outputs, self._clock.monotonic() - started

    async def _isolate(self, parts: Sequence[Part], error: Exception) -> None:
        """Find who broke a batch by halving it, as far as the budget goes. Everybody else gets an answer."""
        parts = [part for part in parts if not part.ticket.future.done()]
        if not parts:
            return
        if len(parts) == 1 or not self._budget.spend(sum(part.rows for part in parts)):
            failure = _failure(parts[0].signature, error)
            for part in parts:
                part.ticket.fail(failure)
            return
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            if (cause := await self._attempt(half)) is not None:
                await self._isolate(half, cause)

    def _learn(self, signature: Signature, curve: CostCurve, rows: int, seconds: float, *, ok: bool) -> None:
        bucket = curve.bucket(rows)
        if ok:
            curve.learn(bucket, seconds)
        self._budget.earn(rows)
        padding = bucket - rows if self._engine.pads and signature.batched else 0
        self._facts.ran(rows, padding, seconds, ok)

    def _arm(self, when: float) -> None:
        """Make sure that `_ring` happens no later than `when`."""
        if self._alarm is None or self._alarm.done() or when < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = when
            self._alarm = asyncio.get_running_loop().create_task(self._ring(when), name="batcher-alarm")

    async def _ring(self, when: float) -> None:
        """Answer whose time is over and notice a run that hangs; then sleep until the next such moment."""
        while True:
            await self._clock.sleep(max(0.0, when - self._clock.monotonic()))
            now = self._clock.monotonic()
            for ticket in list(self._tickets):
                if ticket.deadline <= now:
                    ticket.fail(_expired())
            pending = [ticket.deadline for ticket in self._tickets if not ticket.future.done()]
            if self._run_started is not None:
                if now >= self._hang_at:
                    self._closed = True
                    self._on_hang()
                    return
                pending.append(self._hang_at)
            if not pending:
                return
            when = self._alarm_at = min(pending)


def _expired() -> DeadlineExceeded:
    return DeadlineExceeded("the request's time was over before it could be computed")


def _failure(signature: Signature, error: Exception) -> TealError:
    """What a caller may know of an engine's failure; the rest is for the log."""
    if isinstance(error, TealError):
        return error
    _log.error("signature %s failed: %s: %s", signature.name, type(error).__name__, error)
    return Internal("the model failed on this input")
