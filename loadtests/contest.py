"""Drives a batcher in this process: real event loop, real engine, real thread, no network.

A request is parsed from JSON and its answer printed as JSON, the least any server does; the rest is the batcher under
test. In this process, because both batchers then get the same arrivals to the microsecond, and because a socket and
Envoy in between would add the same large number to both sides of every comparison.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import orjson
import uvloop

from contracts.clock import SystemClock
from contracts.errors import Overloaded
from contracts.limits import LIMITS
from contracts.names import Color
from contracts.package import Manifest, read_manifest
from contracts.signature import Signature
from loadtests.arrivals import Arrivals, arriving
from loadtests.static_batcher import Knobs, StaticBatcher
from serving.batching.batcher import MicroBatcher
from serving.batching.policy import THREAD_SECONDS
from serving.engine.base import NUMPY_DTYPES, Array, Engine
from serving.engine.opening import open_engine
from serving.engine.thread import EngineThread
from serving.state import Identity
from serving.telemetry import Telemetry
from serving.warmup import Costs, warm_up

TURN = 256  # requests taken in one turn of the loop, as from so many connections
GIVE_UP_SECONDS = 10.0  # after the last arrival
LOST_SECONDS = 60.0  # what a request counts as that was refused or never answered; longer than any real answer

Outputs = dict[str, Array]
T = TypeVar("T")


class Contestant(Protocol):
    def ask(self, inputs: Outputs, answered: Callable[[Outputs], None]) -> None:
        """Compute one row; `answered` is called once, now or later. Raises Overloaded when it will not."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Model:
    """A package opened as a worker opens it. `body` is one request; `costs` what warm-up measured."""

    manifest: Manifest
    signature: Signature
    engine: Engine
    thread: Executor
    costs: Costs
    body: bytes

    @property
    def inline(self) -> bool:
        """Whether a run of one row is cheaper than a thread hop. Both batchers go by it."""
        return self.costs[self.signature.name, 1] < THREAD_SECONDS


def opened(package: Path, seed: int = 7) -> Model:
    manifest = read_manifest(package)
    engine = open_engine(package, manifest, 0)
    costs = warm_up(engine, manifest.signatures, manifest.buckets, {}, SystemClock())
    signature = manifest.signatures[0]
    shape = [size or 1 for size in (signature.inputs[0].shape or ())[1:]]
    row = np.random.default_rng(seed).random(shape, np.float32)
    # Small ones as text; a big image would measure nothing but the parser.
    body = orjson.dumps({"instances": [row.tolist()]}) if row.size <= 4096 else row.tobytes()
    return Model(manifest, signature, engine, EngineThread(), costs, body)


class SelfTuning:
    """Teal's batcher, wired and asked as the worker does."""

    def __init__(self, model: Model) -> None:
        self._signature = model.signature
        self._clock = SystemClock()
        self._batcher = MicroBatcher(
            engine=model.engine,
            signatures=model.manifest.signatures,
            buckets=model.manifest.buckets,
            clock=self._clock,
            limits=LIMITS,
            facts=Telemetry(Identity("benchmark", 1, Color.BLUE, "")),
            executor=model.thread,
            on_hang=lambda: None,
        )
        for (signature, bucket), seconds in model.costs.items():
            self._batcher.curves[signature].learn(bucket, seconds)
        self._batcher.start()

    def ask(self, inputs: Outputs, answered: Callable[[Outputs], None]) -> None:
        deadline = self._clock.monotonic() + LIMITS.request_seconds
        outputs = self._batcher.compute_now(self._signature, inputs, 1, deadline)
        if outputs is not None:
            answered(outputs)
            return
        future = self._batcher.submit(self._signature, inputs, 1, deadline)
        future.add_done_callback(lambda done: answered(done.result()))

    async def close(self) -> None:
        await self._batcher.close()


class Static:
    """The batcher with knobs. One row at most and no wait is no batching at all."""

    def __init__(self, knobs: Knobs, model: Model) -> None:
        executor = None if model.inline else model.thread
        self._batcher = StaticBatcher(model.engine, model.signature.name, knobs, executor)

    def ask(self, inputs: Outputs, answered: Callable[[Outputs], None]) -> None:
        self._batcher.submit(inputs, 1).add_done_callback(lambda done: answered(done.result()))

    async def close(self) -> None:
        """Nothing waits: whoever asked has been answered."""


Maker = Callable[[Model], Contestant]


def static(knobs: Knobs) -> Maker:
    return partial(Static, knobs)


@dataclass(frozen=True)
class Outcome:
    """Latencies in seconds from due to answered, ascending; requests that were refused or never answered."""

    latencies: Array
    lost: int

    @property
    def p99(self) -> float:
        """Nearest rank; what was lost took LOST_SECONDS."""
        rank = math.ceil(0.99 * (len(self.latencies) + self.lost)) - 1
        return float(self.latencies[rank]) if 0 <= rank < len(self.latencies) else LOST_SECONDS


def open_loop(maker: Maker, model: Model, arrivals: Arrivals) -> Outcome:
    """Requests come when they are due, whatever became of those before."""
    return _played(_open_loop(maker, model, arrivals))


def capacity(maker: Maker, model: Model, seconds: float, outstanding: int = 256) -> float:
    """Answers per second while there always are `outstanding` requests."""
    return _played(_closed_loop(maker, model, seconds, outstanding))


def _played(story: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story)


def _reader(model: Model) -> Callable[[], Outputs]:
    spec = model.signature.inputs[0]
    dtype, shape = NUMPY_DTYPES[spec.dtype], (1, *(size or 1 for size in (spec.shape or ())[1:]))
    if model.body.startswith(b'{"instances"'):
        return lambda: {spec.name: np.array(orjson.loads(model.body)["instances"], dtype)}
    return lambda: {spec.name: np.frombuffer(model.body, dtype).reshape(shape)}


def _print(outputs: Outputs) -> bytes:
    return orjson.dumps({"predictions": next(iter(outputs.values()))}, option=orjson.OPT_SERIALIZE_NUMPY)


async def _open_loop(maker: Maker, model: Model, arrivals: Arrivals) -> Outcome:
    loop = asyncio.get_running_loop()
    schedule, read = arrivals.schedule(), _reader(model)
    due = schedule.tolist()
    done = np.full(len(due), np.inf)
    contestant, everything = maker(model), asyncio.Event()
    seen = answers = lost = 0

    def answered(n: int, outputs: Outputs) -> None:
        nonlocal answers
        _print(outputs)
        done[n] = time.monotonic() - start
        answers += 1
        if answers + lost == len(due):
            everything.set()

    def arrived() -> None:
        nonlocal seen, lost
        count = len(os.read(pipe, TURN))
        for n in range(seen, seen + count):
            try:
                contestant.ask(read(), partial(answered, n))
            except Overloaded:
                lost += 1
        seen += count
        if not count or seen == len(due):
            loop.remove_reader(pipe)
            if answers + lost == len(due):
                everything.set()

    with arriving(arrivals) as (pipe, start):
        loop.add_reader(pipe, arrived)
        try:
            await asyncio.wait_for(everything.wait(), start - time.monotonic() + arrivals.seconds + GIVE_UP_SECONDS)
        except TimeoutError:
            loop.remove_reader(pipe)
        latencies = np.sort((done - schedule)[np.isfinite(done)])
        await contestant.close()
    return Outcome(latencies, len(due) - len(latencies))


async def _closed_loop(maker: Maker, model: Model, seconds: float, outstanding: int) -> float:
    loop = asyncio.get_running_loop()
    contestant, read, finished = maker(model), _reader(model), asyncio.Event()
    answers = open_ = 0
    begin = time.monotonic()

    def one() -> None:
        nonlocal open_
        open_ += 1
        contestant.ask(read(), answered)

    def answered(outputs: Outputs) -> None:
        nonlocal answers, open_
        _print(outputs)
        answers += 1
        open_ -= 1
        if time.monotonic() - begin < seconds:
            loop.call_soon(one)
        elif not open_:
            finished.set()

    for _ in range(outstanding):
        loop.call_soon(one)
    await finished.wait()
    rate = answers / (time.monotonic() - begin)
    await contestant.close()
    return rate
