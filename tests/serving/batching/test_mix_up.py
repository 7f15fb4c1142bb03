"""Row C5: a million requests, each with a number of its own that the model echoes, and not one gets somebody else's.

The queue, the joining and cutting, and the engine thread are the real ones; callers leave, rows break their batches and
deadlines pass all along.
"""

import asyncio
import random
from concurrent.futures import Executor

import numpy as np

from contracts.clock import SystemClock
from contracts.errors import DeadlineExceeded, Internal, Overloaded, Unavailable
from contracts.limits import LIMITS
from serving.batching.batcher import MicroBatcher
from serving.batching.policy import THREAD_SECONDS
from serving.batching.tickets import Outputs
from serving.engine.base import Array, Tensors
from serving.engine.thread import EngineThread
from tests.serving.batching.bench import AT_ONCE, FOR_EVER, Facts
from tests.serving.engines import HALF_PLUS_TWO, HandExecutor

REQUESTS = 1_000_000
CROWD = 2_000  # at a time
POISON = -1.0
BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Echo:
    """Answers y = x, padded as LiteRT pads; raises for a batch with a bad row in it."""

    plan = "litert"
    pads = True

    def warm(self, bucket: int) -> None:
        return

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        x = inputs["x"]
        if x.min() == POISON:
            raise ValueError("a bad row")
        return {"y": x.copy()}

    def close(self) -> None:
        return


def batcher(executor: Executor, cost: float) -> MicroBatcher:
    made = MicroBatcher(
        engine=Echo(),
        signatures=(HALF_PLUS_TWO,),
        buckets=BUCKETS,
        clock=SystemClock(),
        limits=LIMITS,
        facts=Facts(),
        executor=executor,
        on_hang=lambda: None,
    )
    for curve in made.curves.values():
        for bucket in BUCKETS:
            curve.learn(bucket, cost)
        curve.learn = lambda bucket, seconds: None  # type: ignore[method-assign]
    made.start()
    return made


class Tally:
    """What became of every request. `mixed` has to stay 0."""

    def __init__(self) -> None:
        self.right = self.mixed = self.failed = self.gone = 0

    def take(self, first: float, rows: int, future: "asyncio.Future[Outputs]") -> None:
        if future.cancelled():
            self.gone += 1
        elif (error := future.exception()) is not None:
            assert isinstance(error, Internal | DeadlineExceeded | Unavailable)
            self.failed += 1
        else:
            y = future.result()["y"]
            if len(y) == rows and y[0] == first and y[-1] == first + rows - 1:
                self.right += 1
            else:
                self.mixed += 1

    @property
    def answered(self) -> int:
        return self.right + self.mixed + self.failed + self.gone


def test_a_million_requests_get_their_own_rows_and_nobody_elses() -> None:
    tally = Tally()

    async def story() -> None:
        dice = random.Random(1)
        made = batcher(EngineThread(), THREAD_SECONDS)
        sent, tag = 0, 0.0
        while sent < REQUESTS:
            futures: list[asyncio.Future[Outputs]] = []
            for _ in range(CROWD):
                chance = dice.random()
                rows = 1 if chance < 0.9 else 3
                x = np.arange(tag, tag + rows, dtype=np.float32)
                if chance < 0.0005:
                    x[-1] = POISON
                end = made._clock.monotonic() + (30.0 if chance < 0.98 else 0.02)
                first, tag = tag, (tag + rows) % 2**23  # whole numbers that float32 holds exactly
                try:
                    future = made.submit(HALF_PLUS_TWO, {"x": x}, rows, end)
                except (Overloaded, DeadlineExceeded):  # its time would not be enough, or was over after a hiccup
                    tally.failed += 1
                    continue
                future.add_done_callback(lambda done, first=first, rows=rows: tally.take(first, rows, done))
                futures.append(future)
            sent += CROWD
            for number in range(0, len(futures), 17):
                futures[number].cancel()
            if sent >= REQUESTS:  # the last crowd is told that the worker stops
                await asyncio.sleep(0.001)
                await made.close()
            await asyncio.wait(futures)
        await asyncio.sleep(0)

    asyncio.run(story())
    assert tally.mixed == 0
    assert tally.answered == REQUESTS
    assert tally.right > 0.85 * REQUESTS
    assert tally.failed > 0
    assert tally.gone > 0


def test_what_is_computed_at_once_between_batches_is_its_own_callers_too() -> None:
    async def story() -> None:
        made = batcher(HandExecutor(), AT_ONCE)
        for tag in range(20_000):
            x = np.array([tag], np.float32)
            if tag % 3:
                outputs = made.compute_now(HALF_PLUS_TWO, {"x": x}, 1, FOR_EVER)
            else:
                outputs = await made.submit(HALF_PLUS_TWO, {"x": x}, 1, FOR_EVER)
            assert outputs is not None
            assert outputs["y"][0] == tag
        await made.close()

    asyncio.run(story())
