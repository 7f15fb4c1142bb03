"""Whose turn it is when callers say how urgent they are: 1 first, then everybody, then larger numbers."""

import asyncio

import numpy as np

from serving.engine.base import Tensors
from tests.serving.batching.bench import Bench, settle, values
from tests.serving.engines import HALF_PLUS_TWO, FormulaEngine


def recorder(seen: list[list[float]]) -> FormulaEngine:
    """Answers `y` = `x` and remembers the rows of each run in their order."""

    def run(inputs: Tensors) -> dict[str, np.ndarray]:
        seen.append(inputs["x"].tolist())
        return {"y": inputs["x"].copy()}

    return FormulaEngine(run)


def order(*calls: tuple[list[float], int]) -> list[list[float]]:
    """The runs of a batcher of at most two rows in which all of these waited together, each rows and a priority."""
    seen: list[list[float]] = []

    async def story() -> None:
        async with Bench(recorder(seen), buckets=(1, 2)) as bench:
            bench.send(0)
            await settle()
            deadline = bench.clock.monotonic() + 30
            futures = [
                bench.batcher.submit(
                    HALF_PLUS_TWO, {"x": np.array(rows, np.float32)}, len(rows), deadline, priority=priority
                )
                for rows, priority in calls
            ]
            await bench.run()
            assert [values(future) for future in futures] == [rows for rows, _ in calls]

    asyncio.run(story())
    return seen[1:]


def test_who_came_first_goes_first_where_nobody_is_more_urgent() -> None:
    assert order(([1], 0), ([2], 2), ([3], 0), ([4], 0)) == [[1, 2], [3, 4]]


def test_one_goes_before_everybody_and_large_numbers_go_last() -> None:
    assert order(([1], 0), ([2], 9), ([3], 1), ([4], 0), ([5], 3), ([6], 1)) == [[3, 6], [1, 4], [5, 2]]
    assert order(([1], 2**64 - 1), ([2], 0)) == [[2, 1]]


def test_the_parts_of_a_big_request_keep_their_order() -> None:
    assert order(([1, 2, 3, 4], 5), ([5], 1), ([6, 7, 8], 5)) == [[5], [1, 2], [3, 4], [6, 7], [8]]
