"""Hypothesis plays everybody at once: callers, their patience, the engine, and the operator who stops it."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.errors import DeadlineExceeded, Internal, Overloaded, TealError, Unavailable
from serving.batching.tickets import Outputs
from serving.engine.base import Array, Tensors
from tests.serving.batching.bench import AT_ONCE, IN_THREAD, ON_LOOP, Bench, settle, values
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine

POISON = -1.0
_BUCKETS = (1, 2, 4, 8)


class BatcherMachine(RuleBasedStateMachine):
    """Each caller sends numbers that nobody else sends, so a run and an answer say whose rows they hold."""

    @initialize(cost=st.sampled_from([AT_ONCE, ON_LOOP, IN_THREAD]))
    def begin(self, cost: float) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.late: list[float] = []
        self.deadline: dict[float, float] = {}  # by number sent
        self.sent: list[tuple[asyncio.Future[Outputs], list[float], bool]] = []
        self.answers: list[int] = []
        self.next = 0.0
        self.closed = False
        self.bench = Bench(FormulaEngine(self.formula, POISON), cost=cost, buckets=_BUCKETS)
        self.handed_over: float | None = None
        self.submit = self.bench.executor.submit
        self.bench.executor.submit = self.hand_over  # type: ignore[method-assign]
        self.do(self.bench.__aenter__())

    def do(self, story: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(story)
        self.loop.run_until_complete(settle())

    def hand_over(self, *call: Any) -> Future[Any]:
        """A run begins when the thread gets it; that a test lets the thread wait is not the batcher's doing."""
        self.handed_over = self.bench.clock.monotonic()
        return self.submit(*call)

    def formula(self, inputs: Tensors) -> dict[str, Array]:
        now = self.bench.clock.monotonic() if self.handed_over is None else self.handed_over
        self.handed_over = None
        self.late += [n for n in inputs["x"].tolist() if self.deadline.get(n, now + 1) <= now]
        return {"y": inputs["x"].copy()}

    @rule(
        rows=st.integers(1, 20),
        seconds=st.sampled_from([0.01, 0.5, 5.0, 29.0]),
        poisoned=st.sampled_from([False] * 6 + [True]),
    )
    def arrive(self, rows: int, seconds: float, poisoned: bool) -> None:
        own = [self.next + i for i in range(rows)]
        self.next += rows
        for number in own:
            self.deadline[number] = self.bench.clock.monotonic() + seconds

        async def send() -> None:
            try:
                future = self.bench.send(*([POISON, *own[1:]] if poisoned else own), seconds=seconds)
            except Overloaded:
                return
            except Unavailable:
                assert self.closed or self.bench.hangs
                return
            place = len(self.sent)
            self.answers.append(0)
            future.add_done_callback(lambda _: self.count(place))
            self.sent.append((future, own, poisoned))

        self.do(send())

    @rule(rows=st.integers(1, 8), poisoned=st.booleans())
    def ask_at_once(self, rows: int, poisoned: bool) -> None:
        async def ask() -> None:
            own = [self.next + i for i in range(rows)]
            sent = [POISON, *own[1:]] if poisoned else own
            inputs = {"x": self.bench.rows(*sent)}
            try:
                outputs = self.bench.batcher.compute_now(HALF_PLUS_TWO, inputs, rows, self.bench.clock.monotonic() + 1)
            except Internal:
                assert poisoned or self.bench.engine.broken_rows
            else:
                assert outputs is None or outputs["y"].tolist() == own

        self.do(ask())
        self.next += rows

    @precondition(lambda self: self.sent)
    @rule(who=st.integers(0, 1000))
    def leave(self, who: int) -> None:
        self.sent[who % len(self.sent)][0].cancel()
        self.do(settle())

    @rule(seconds=st.sampled_from([0.001, 0.02, 1.0, 12.0]))
    def pass_time(self, seconds: float) -> None:
        self.do(self.bench.advance(seconds))

    @rule(runs=st.integers(1, 4))
    def run_engine(self, runs: int) -> None:
        self.do(self.bench.run(runs))

    @rule(rows=st.sampled_from([0, 0, 1]))
    def lose_rows(self, rows: int) -> None:
        self.bench.engine.broken_rows = rows

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.do(self.bench.batcher.close())

    def count(self, place: int) -> None:
        self.answers[place] += 1

    @invariant()
    def nobody_has_somebody_elses_rows_or_an_answer_too_many(self) -> None:
        for (future, own, poisoned), answers in zip(self.sent, self.answers, strict=True):
            assert answers == int(future.done())
            if not future.done() or future.cancelled():
                continue
            error = future.exception()
            if error is None:
                assert not poisoned
                assert values(future) == own
            else:
                assert isinstance(error, TealError)
                assert isinstance(error, DeadlineExceeded | Internal | Unavailable)
                if isinstance(error, Internal) and not poisoned:
                    assert "rows" in error.message, "a bad row failed its neighbour"

    @invariant()
    def no_late_row_is_computed(self) -> None:
        assert self.late == []

    @invariant()
    def the_queue_counts_what_waits(self) -> None:
        waiting = sum(len(own) for future, own, _ in self.sent if not future.done())
        assert 0 <= self.bench.batcher.queued_rows <= waiting

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.bench.engine.broken_rows = 0
        self.do(self.bench.run())
        self.do(self.bench.advance(31.0))
        assert self.answers == [1] * len(self.sent), "somebody was left waiting"
        assert self.bench.batcher.queued_rows == 0
        self.do(self.bench.batcher.close())
        self.loop.close()
        assert self.complaints == []


TestBatcherMachine = BatcherMachine.TestCase
TestBatcherMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
