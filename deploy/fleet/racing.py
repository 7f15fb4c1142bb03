"""Waits for the first of several things and leaves no task behind."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def first_of(*awaitables: Awaitable[Any]) -> tuple[asyncio.Future[Any], ...]:
    """Return once one of `awaitables` is done, the others cancelled: a future for each, in order. Those that did not
    make it are `.cancelled()`. Cancelling this cancels all of them."""
    tasks = tuple(asyncio.ensure_future(each) for each in awaitables)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks
