"""The comparison object of the batcher benchmark: a batcher with two knobs, as TensorFlow Serving and Triton have it.

A batch leaves when `max_rows` wait, or when the oldest has waited `max_wait`, and never while another one is being
computed. What gathers meanwhile leaves next. Correct and plain: no deadlines, no limits, no isolation of bad rows.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from serving.batching.assemble import cut, join
from serving.engine.base import Array, Engine

Outputs = dict[str, Array]


@dataclass(frozen=True, order=True)
class Knobs:
    """`max_rows` in one run, `max_wait` in seconds from the arrival of the oldest."""

    max_rows: int
    max_wait: float

    def __str__(self) -> str:
        return f"{self.max_rows} rows, {self.max_wait * 1e3:g} ms"


@dataclass(slots=True)
class _Waiting:
    future: "asyncio.Future[Outputs]"
    inputs: Mapping[str, Array]
    rows: int
    until: float  # in the loop's time


class StaticBatcher:
    """Feeds one engine with runs of one signature. `executor` None computes on the event loop."""

    def __init__(self, engine: Engine, signature: str, knobs: Knobs, executor: Executor | None) -> None:
        self._engine = engine
        self._signature = signature
        self._knobs = knobs
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._busy = False
        self._look_at: asyncio.Handle | None = None

    def submit(self, inputs: Mapping[str, Array], rows: int) -> "asyncio.Future[Outputs]":
        """The future answers with the outputs of these rows, at most `max_rows`, or raises what the engine raised."""
        if rows > self._knobs.max_rows:
            raise ValueError(f"a request of {rows} rows in batches of at most {self._knobs.max_rows}")
        future: asyncio.Future[Outputs] = self._loop.create_future()
        self._queue.append(_Waiting(future, inputs, rows, self._loop.time() + self._knobs.max_wait))
        self._rows += rows
        # Through the loop, so that what arrives in the same turn goes along.
        if not self._busy and (self._look_at is None or self._rows >= self._knobs.max_rows):
            self._look(0.0)
        return future

    def _look(self, seconds: float) -> None:
        if self._look_at is not None:
            self._look_at.cancel()
        call = self._loop.call_soon if seconds <= 0 else lambda back: self._loop.call_later(seconds, back)
        self._look_at = call(self._leave_if_due)

    def _leave_if_due(self) -> None:
        self._look_at = None
        if self._busy or not self._queue:
            return
        left = self._queue[0].until - self._loop.time()
        if self._rows < self._knobs.max_rows and left > 0:
            self._look(left)
            return
        batch = self._take()
        inputs = join([one.inputs for one in batch])
        if self._executor is None:
            self._answer(batch, self._computed(inputs))
        else:
            self._busy = True
            run = self._loop.run_in_executor(self._executor, self._computed, inputs)
            run.add_done_callback(lambda done: self._free(batch, done.result()))

    def _take(self) -> list[_Waiting]:
        batch, rows = [], 0
        while self._queue and rows + self._queue[0].rows <= self._knobs.max_rows:
            batch.append(self._queue.popleft())
            rows += batch[-1].rows
        self._rows -= rows
        return batch

    def _computed(self, inputs: Mapping[str, Array]) -> Outputs | Exception:
        try:
            return self._engine.run(self._signature, inputs)
        except Exception as error:  # whatever the model raises is everybody's answer
            return error

    def _free(self, batch: list[_Waiting], outcome: Outputs | Exception) -> None:
        self._busy = False
        self._answer(batch, outcome)

    def _answer(self, batch: list[_Waiting], outcome: Outputs | Exception) -> None:
        rows = [one.rows for one in batch]
        if not isinstance(outcome, Exception) and any(len(array) != sum(rows) for array in outcome.values()):
            outcome = ValueError(f"the model answered {sum(rows)} rows with another number of them")
        pieces: list[Outputs | Exception]
        pieces = [outcome] * len(batch) if isinstance(outcome, Exception) else [*cut(outcome, rows)]
        for one, piece in zip(batch, pieces, strict=True):
            if one.future.done():  # who left disturbs nobody
                continue
            if isinstance(piece, Exception):
                one.future.set_exception(piece)
            else:
                one.future.set_result(piece)
        if self._queue and self._look_at is None:
            self._look(0.0)
