"""A batcher on a test bench: a clock that only the test moves, an engine thread that runs only when told."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from contracts.limits import LIMITS, Limits
from contracts.signature import Signature
from serving.batching.batcher import MicroBatcher
from serving.batching.ports import Guardian
from serving.batching.tickets import Outputs
from serving.engine.base import Array
from tests.fakes.clock import HandClock
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine, HandExecutor

FOR_EVER = 1e9
IN_THREAD = 0.010
ON_LOOP = 100e-6
AT_ONCE = 10e-6


async def settle() -> None:
    """Let everything run that needs no time."""
    for _ in range(50):
        await asyncio.sleep(0)


@dataclass
class Facts:
    runs: list[tuple[int, int, bool]] = field(default_factory=list)  # rows, padding, ok
    waits: list[float] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    look_from: float = -math.inf
    seen: list[Outputs] = field(default_factory=list)

    def ran(self, rows: int, padding: int, seconds: float, ok: bool) -> None:
        self.runs.append((rows, padding, ok))

    def ran_alone(self, rows: int, padding: int, seconds: float) -> None:
        self.ran(rows, padding, seconds, ok=True)
        self.waited(0.0)

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def saw(self, signature: Signature, outputs: Outputs, now: float) -> None:
        self.seen.append(outputs)

    def wrong(self, reason: str) -> None:
        self.wrongs.append(reason)


class Bench:
    """`cost` seconds per run, one for all buckets or one each, decide where runs take place; the clock stands still
    during a run."""

    def __init__(
        self,
        engine: FormulaEngine,
        *,
        cost: float | Mapping[int, float] = IN_THREAD,
        signatures: tuple[Signature, ...] = (HALF_PLUS_TWO,),
        buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
        limits: Limits = LIMITS,
        guard: Guardian | None = None,
    ) -> None:
        self.engine = engine
        self.clock = HandClock()
        self.facts = Facts()
        self.executor = HandExecutor()
        self.hangs = 0
        self.batcher = MicroBatcher(
            engine=engine,
            signatures=signatures,
            buckets=buckets,
            clock=self.clock,
            limits=limits,
            facts=self.facts,
            executor=self.executor,
            on_hang=self._hung,
            guard=guard,
        )
        for curve in self.batcher.curves.values():
            for bucket in curve.buckets:
                curve.learn(bucket, cost if isinstance(cost, float) else cost[bucket])
            curve.learn = lambda bucket, seconds: None  # type: ignore[method-assign]  # the price list stays
        self.signature = signatures[0]

    async def __aenter__(self) -> "Bench":
        self.batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.batcher.close()

    @staticmethod
    def rows(*values: float) -> Array:
        return np.array(values, np.float32)

    def send(
        self, *values: float, seconds: float = FOR_EVER, signature: Signature | None = None
    ) -> "asyncio.Future[Outputs]":
        rows = self.rows(*values)
        return self.batcher.submit(
            signature or self.signature, {"x": rows}, len(rows), self.clock.monotonic() + seconds
        )

    async def run(self, runs: int | None = None) -> None:
        """Let the engine thread do `runs` runs, or all there are."""
        await settle()
        while self.executor.waiting and runs != 0:
            self.executor.run_one()
            await settle()
            runs = None if runs is None else runs - 1

    async def advance(self, seconds: float) -> None:
        """Let time pass and everything happen that was due."""
        await settle()
        self.clock.move(seconds)
        await settle()

    def _hung(self) -> None:
        self.hangs += 1


def values(future: "asyncio.Future[Outputs]") -> list[float]:
    return future.result()["y"].tolist()
