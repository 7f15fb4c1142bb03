"""The static batcher is a fair opponent: it answers everybody with their own rows, leaves when full or when the time is
over, and never later than it must."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from loadtests.static_batcher import Knobs, Outputs, StaticBatcher
from serving.engine.base import Array
from serving.engine.thread import EngineThread

LONG = 3600.0  # seconds; a wait nobody sits out


class Doubling:
    """An engine that doubles x and remembers how many rows each run had. Refuses rows below zero."""

    plan = "double"
    pads = False

    def __init__(self) -> None:
        self.runs: list[int] = []

    def warm(self, bucket: int) -> None: ...

    def run(self, signature: str, inputs: Mapping[str, Array]) -> Outputs:
        self.runs.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise ValueError("below zero")
        return {"y": inputs["x"] * 2}

    def close(self) -> None: ...


def rows(*values: float) -> Outputs:
    return {"x": np.array(values)}


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


@pytest.mark.parametrize("threaded", [False, True])
def test_everybody_gets_their_own_rows(threaded: bool):
    engine = Doubling()

    async def story() -> None:
        batcher = StaticBatcher(engine, "s", Knobs(8, 0.0), EngineThread() if threaded else None)
        futures = [batcher.submit(rows(*range(n, n + 1 + n % 3)), 1 + n % 3) for n in range(100)]
        for n, future in enumerate(futures):
            assert (await future)["y"].tolist() == [2.0 * value for value in range(n, n + 1 + n % 3)]

    play(story())
    assert max(engine.runs) <= 8
    assert sum(engine.runs) == sum(1 + n % 3 for n in range(100))


def test_a_full_batch_waits_no_longer():
    engine = Doubling()

    async def story() -> None:
        batcher = StaticBatcher(engine, "s", Knobs(4, LONG), None)
        await asyncio.gather(*[batcher.submit(rows(n), 1) for n in range(8)])

    play(story())
    assert engine.runs == [4, 4]


def test_a_batch_that_never_fills_leaves_when_its_oldest_has_waited_long_enough():
    engine = Doubling()

    async def story() -> None:
        batcher = StaticBatcher(engine, "s", Knobs(4, 0.01), None)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[batcher.submit(rows(n), 1) for n in range(3)])
        assert asyncio.get_running_loop().time() - began >= 0.009

    play(story())
    assert engine.runs == [3]


def test_what_gathers_during_a_run_leaves_together_after_it():
    engine, begun = Doubling(), threading.Event()

    class Telling(EngineThread):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            begun.set()
            return super().submit(fn, *args, **kwargs)

    async def story() -> None:
        batcher = StaticBatcher(engine, "s", Knobs(8, 0.0), Telling())
        first = batcher.submit(rows(1), 1)
        await asyncio.sleep(0)  # its turn
        assert begun.is_set()
        later = [batcher.submit(rows(n), 1) for n in range(5)]
        await asyncio.gather(first, *later)

    play(story())
    assert engine.runs == [1, 5]


def test_one_row_at_most_is_no_batching():
    engine = Doubling()

    async def story() -> None:
        batcher = StaticBatcher(engine, "s", Knobs(1, 0.0), EngineThread())
        await asyncio.gather(*[batcher.submit(rows(n), 1) for n in range(10)])
        with pytest.raises(ValueError, match="2 rows in batches of at most 1"):
            batcher.submit(rows(1, 2), 2)

    play(story())
    assert engine.runs == [1] * 10


def test_a_failing_run_is_the_answer_of_its_callers_only():
    async def story() -> None:
        batcher = StaticBatcher(Doubling(), "s", Knobs(2, 0.0), None)
        futures = [batcher.submit(rows(value), 1) for value in (1, -1, 3, 4)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ValueError, ValueError, dict, dict]

    play(story())


def test_a_departed_caller_leaves_its_batchmates_untouched():
    async def story() -> None:
        batcher = StaticBatcher(Doubling(), "s", Knobs(4, LONG), None)
        futures = [batcher.submit(rows(n), 1) for n in range(4)]
        futures[1].cancel()
        assert [(await futures[n])["y"].tolist() for n in (0, 2, 3)] == [[0], [4], [6]]

    play(story())
