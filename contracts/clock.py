"""Time, handed in. Monotonic seconds for waiting and deadlines, wall-clock seconds for records."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may jump."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)  # itself, not wrapped: the hot path asks several times per request

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
