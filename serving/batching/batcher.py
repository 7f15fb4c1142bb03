"""The micro-batcher: every caller is answered exactly once, with the outputs of its own rows.

Work-conserving: what gathered while the engine was busy leaves when the engine is free, unless `waiting` finds company
worth a moment. Who may wait is `admission`, how much leaves is `policy`, on costs that `curve` learns; joining and
cutting is `assemble`; who waits is `queue`. Here are the futures, the deadlines and the order of things. Everything
runs on one event loop, except the engine's own run, which may be in one thread.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from contracts.clock import Clock
from contracts.errors import DeadlineExceeded, Internal, Overloaded, TealError, Unavailable
from contracts.limits import Limits
from contracts.signature import Signature
from serving.batching.admission import Gate, finish_seconds, rest_seconds
from serving.batching.assemble import Promise, WrongOutputs, cut, join, shape_key, split
from serving.batching.curve import CostCurve
from serving.batching.policy import Route, SearchBudget, route
from serving.batching.ports import BatchFacts, Guardian, Unguarded
from serving.batching.queue import Queue
from serving.batching.tickets import Outputs, Part, Ticket
from serving.batching.waiting import Returns, worth_waiting
from serving.engine.base import Engine
from serving.poison.marks import mark

_log = logging.getLogger(__name__)
_LONERS = 1024  # inputs the model failed on that are remembered, so that the same one again breaks nobody's batch

_USUAL = 2  # the priority of who names none: 1 is more urgent, all others are less


class MicroBatcher:
    """Feeds one engine. `start` before the first request, `close` after the last.

    executor   one thread, for runs that are longer than a thread hop
    guard      is told which requests are in the engine, and takes those that must not get in
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
        guard: Guardian | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._facts = facts
        self._guard: Guardian = guard or Unguarded()
        self._executor = executor
        self._on_hang = on_hang
        self.curves = {s.name: CostCurve(buckets if s.batched else (1,)) for s in signatures}
        self._promises = {s.name: Promise(s) for s in signatures}
        self._budgets = {name: SearchBudget(curve) for name, curve in self.curves.items()}
        self._returns = Returns()
        self._gate = Gate(limits)
        self._has_waited = False
        self._loners: dict[int, None] = {}
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
        name = mark(signature.name, inputs)
        guard = self._guard
        if guard.watching and guard.suspects(name):
            return None
        now = self._clock.monotonic
        started = now()
        if started >= deadline:
            raise _expired()
        guard.begin([name])
        try:
            outputs = self._engine.run(signature.name, inputs)
            self._promises[signature.name].check(outputs, rows)
        except Exception as error:
            self._learn(signature, curve, rows, now() - started, ok=False)
            raise self._failure(signature, error) from error
        finally:
            guard.end()
        seconds, bucket, facts = now() - started, curve.bucket(rows), self._facts
        curve.learn(bucket, seconds)
        self._budgets[signature.name].earn(seconds)
        facts.ran_alone(rows, bucket - rows if self._engine.pads and signature.batched else 0, seconds)
        if started >= facts.look_from:
            facts.saw(signature, outputs, started)
        return outputs

    def submit(
        self,
        signature: Signature,
        inputs: Outputs,
        rows: int,
        deadline: float,
        *,
        retried: bool = False,
        priority: int = 0,
    ) -> "asyncio.Future[Outputs]":
        """Queue a request; the future answers with its outputs, or raises DeadlineExceeded, Unavailable or Internal.
        Cancel it when the caller leaves. Refuses at once: Overloaded, TooLarge, DeadlineExceeded, Unavailable,
        Quarantined. `retried` says that another worker had it before and did not answer. `priority` 1 goes before
        everybody, 0 and 2 are the usual, and the larger a number is, the longer it stands behind."""
        now = self._clock.monotonic()
        curve = self.curves[signature.name]
        size = sum(array.nbytes for array in inputs.values())
        expected = self._admit(curve, rows, size, now, deadline)
        name = mark(signature.name, inputs)
        if self._is_suspect(name, retried):
            return self._guard.examine(signature.name, inputs, name, deadline)
        pieces = [(inputs, rows)] if rows <= curve.buckets[-1] else split(inputs, rows, curve.buckets[-1])
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        start_by = min(deadline, now + self._limits.queue_seconds)
        ticket = Ticket(future, now, expected, start_by, deadline, len(pieces), rows, size, name)
        key = shape_key(signature.name, inputs)
        if self._loners and name in self._loners:
            key = (*key, self._sequence)
        for index, (piece, count) in enumerate(pieces):
            self._sequence += 1
            turn = (priority or _USUAL, self._sequence)
            self._queue.put(Part(ticket, index, turn, signature, key, piece, count))
        self._queue.admit(ticket)
        self._tickets.add(ticket)
        future.add_done_callback(lambda _: self._settle(ticket))
        self._returns.arrived(now, rows)
        self._arm(start_by)
        self._wake.set()
        return future

    def _is_suspect(self, name: int, retried: bool) -> bool:
        guard = self._guard
        return (retried and guard.suspects_retried(name)) or (guard.watching and guard.suspects(name))

    def check_room(self, deadline: float) -> None:
        """Raise Overloaded when not even one row more could be computed in time: for those who would have to read and
        decode a request first. `submit` asks again, and knows how many rows there are."""
        if self._tickets:
            now = self._clock.monotonic()
            curves = self.curves.values()
            refusals = [self._gate.refusal(c, 1, self._expected(c, 1, now), deadline - now, now) for c in curves]
            if (refusal := refusals[0]) is not None and None not in refusals:
                raise refusal

    def _admit(self, curve: CostCurve, rows: int, size: int, now: float, deadline: float) -> float:
        """Refuse, or return how many seconds the request is expected to take by what runs cost."""
        if self._closed:
            raise Unavailable("this worker is stopping; send the request again")
        if now >= deadline:
            raise _expired()
        expected = self._expected(curve, rows, now)
        self._gate.check_size(self._queue, rows, size, expected)
        # A request that finds nobody before it is always tried: only runs can correct an estimate that is wrong.
        if not self._tickets:
            self._gate.empty(now)
        elif (refusal := self._gate.refusal(curve, rows, expected, deadline - now, now)) is not None:
            raise refusal
        return expected

    def _expected(self, curve: CostCurve, rows: int, now: float) -> float:
        """Seconds until a request that arrives now is answered, by costs alone."""
        running = 0.0 if self._run_started is None else rest_seconds(self._run_cost, now - self._run_started)
        return running + finish_seconds(curve, self._queue.rows + rows, self._queue.lines)

    def _settle(self, ticket: Ticket) -> None:
        """A ticket was answered or its caller left."""
        self._tickets.discard(ticket)
        self._queue.forget(ticket)

    async def _drive(self) -> None:
        """Take what waits, compute it, answer; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (head := self._queue.first()) is not None:
                if await self._wait_for_company(head):
                    continue
                budget, curve = self._budgets[head.signature.name], self.curves[head.signature.name]
                now = self._clock.monotonic()
                load = self._returns.rate * curve.seconds_per_row()
                parts = self._queue.take(head, curve, budget.company(), load, now)
                self._gate.began(now, parts[-1].ticket.arrived)
                for part in parts:
                    if part.index == 0:
                        self._facts.waited(now - part.ticket.arrived)
                rows = sum(part.rows for part in parts)
                budget.earn(curve.seconds(rows))
                if (error := await self._attempt(parts)) is not None:
                    await self._isolate(parts, error)
                else:
                    first = parts[0].ticket
                    self._gate.ended(first.expected, self._clock.monotonic() - first.arrived)
                self._returns.answered(self._clock.monotonic(), rows)
                await asyncio.sleep(0)  # who was answered, or came during a run on the loop, gets a turn to queue up

    async def _wait_for_company(self, head: Part) -> bool:
        """Let a batch that could leave wait, where that is worth it. True when time has passed: look again who waits
        then. At most one wait per run."""
        curve, rows = self.curves[head.signature.name], self._queue.rows
        if self._has_waited or self._queue.lines > 1 or not head.signature.batched or rows >= curve.buckets[-1]:
            self._has_waited = False
            return False
        if route(curve, rows) is not Route.THREAD or self._budgets[head.signature.name].company() <= rows:
            return False
        now = self._clock.monotonic()
        patience = min((ticket.due for ticket in self._tickets), default=now) - now
        wait = worth_waiting(curve, rows, self._returns.expected(now), patience)
        if wait is None:
            return False
        self._has_waited = True
        bell = asyncio.get_running_loop().create_task(self._wake_at(now + wait.seconds), name="batcher-wait")
        try:
            while not bell.done() and self._queue.rows < wait.rows and self._queue.lines == 1:
                await self._wake.wait()
                self._wake.clear()
        finally:
            bell.cancel()
        return True

    async def _wake_at(self, when: float) -> None:
        while (left := when - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        self._wake.set()

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
            outputs = await self._run(signature, parts, rows)
        except WrongOutputs as error:
            failure = self._failure(signature, error)
            for part in parts:
                part.ticket.fail(failure)
            return None
        except Exception as error:  # whatever the model's runtime raises is the answer to somebody
            return error
        pieces = cut(outputs, [part.rows for part in parts]) if signature.batched else [outputs]
        for part, piece in zip(parts, pieces, strict=True):
            part.ticket.answer(part.index, piece)
            if self._loners:
                self._loners.pop(part.ticket.mark, None)
        return None

    async def _run(self, signature: Signature, parts: Sequence[Part], rows: int) -> Outputs:
        """One engine run, on the loop or in the thread, timed and told."""
        curve, inputs = self.curves[signature.name], join([part.inputs for part in parts])
        self._guard.begin([part.ticket.mark for part in parts])
        started = self._clock.monotonic()
        seconds: float | None = None
        leaving = False
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
            self._promises[signature.name].check(outputs, rows)
            seconds = took
        except asyncio.CancelledError:
            leaving = True  # a run that goes on in its thread goes on being named in the journal
            raise
        finally:
            if not leaving:
                self._guard.end()
            self._run_started, self._run_cost = None, 0.0
            ok = seconds is not None
            self._learn(
                signature, curve, rows, self._clock.monotonic() - started if seconds is None else seconds, ok=ok
            )
        if started >= self._facts.look_from:
            self._facts.saw(signature, outputs, started)
        return outputs

    def _timed(self, signature: str, inputs: Outputs) -> tuple[Outputs, float]:
        """The run and its seconds, without the way into the thread and back."""
        started = self._clock.monotonic()
        outputs = self._engine.run(signature, inputs)
        return outputs, self._clock.monotonic() - started

    async def _isolate(self, parts: Sequence[Part], error: Exception) -> None:
        """Find who broke a batch by halving it. Everybody else gets an answer; what it may cost was settled before the
        batch was made, by SearchBudget.company."""
        parts = [part for part in parts if not part.ticket.future.done()]
        if not parts:
            return
        signature = parts[0].signature
        if len(parts) == 1:
            parts[0].ticket.fail(self._failure(signature, error))
            self._remember_loner(parts[0].ticket.mark)
            return
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            self._budgets[signature.name].spend(self.curves[signature.name].seconds(sum(part.rows for part in half)))
            if (cause := await self._attempt(half)) is not None:
                await self._isolate(half, cause)

    def _remember_loner(self, name: int) -> None:
        """The same input again breaks nobody's batch: it runs alone until it succeeds."""
        self._loners[name] = None
        if len(self._loners) > _LONERS:
            del self._loners[next(iter(self._loners))]

    def _learn(self, signature: Signature, curve: CostCurve, rows: int, seconds: float, *, ok: bool) -> None:
        bucket = curve.bucket(rows)
        if ok:
            curve.learn(bucket, seconds)
        padding = bucket - rows if self._engine.pads and signature.batched else 0
        self._facts.ran(rows, padding, seconds, ok)

    def _failure(self, signature: Signature, error: Exception) -> TealError:
        """What a caller may know of an engine's failure; the rest is for the log."""
        if isinstance(error, WrongOutputs):
            self._facts.wrong(error.message)
        if isinstance(error, TealError):
            _log.error("signature %s: %s", signature.name, error.message)
            return error
        _log.error("signature %s failed: %s: %s", signature.name, type(error).__name__, error)
        return Internal("the model failed on this input")

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
                elif ticket.due <= now:
                    ticket.fail(Overloaded(f"the request waited {now - ticket.arrived:.1f} s for its turn in vain"))
            pending = [ticket.due for ticket in self._tickets if not ticket.future.done()]
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
