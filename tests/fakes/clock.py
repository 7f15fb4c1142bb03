"""A clock that stands still until a test moves it."""

import asyncio


class HandClock:
    """Honest Clock. `move` lets time pass and wakes whoever slept long enough."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._monotonic = 0.0
        self._wall = wall
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        self._sleepers.append((self._monotonic + seconds, woken))
        await woken.wait()

    @property
    def next_due(self) -> float:
        """When the first sleeper wants to be woken; infinity when nobody sleeps."""
        return min((until for until, _ in self._sleepers), default=float("inf"))

    def move(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds
        for until, woken in self._sleepers:
            if until <= self._monotonic:
                woken.set()
        self._sleepers = [(until, woken) for until, woken in self._sleepers if not woken.is_set()]
