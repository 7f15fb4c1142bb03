"""A change counter that others wait on."""

import asyncio


class Bell:
    """Counts changes and wakes whoever waits for the next. Belongs to one event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._next = asyncio.Event()

    def ring(self) -> None:
        self._count += 1
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def after(self, seen: int) -> int:
        """Return the count as soon as it is greater than `seen`."""
        while self._count <= seen:
            await self._next.wait()
        return self._count
