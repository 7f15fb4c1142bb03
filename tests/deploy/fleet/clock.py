"""A clock that only a test moves, and that wakes each sleeper at its own time: loops that ask, sleep and ask again see
every moment in between (tests.fakes.clock jumps)."""

import asyncio
import heapq
import itertools

SETTLE_ROUNDS = 50  # turns of the event loop after which everything that can run without time has run


class SteppingClock:
    """Honest Clock. Monotonic and wall time start apart, so that mixing them up shows."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        heapq.heappush(self._sleepers, (self._monotonic + max(seconds, 0.0), next(self._order), awake))
        await awake.wait()

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or a time server does."""
        self._wall += seconds

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: everybody who sleeps for less is woken at their time and in their order, and runs until
        they sleep again."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, awake = heapq.heappop(self._sleepers)
            self._move_to(at)
            awake.set()
            await settle()
        self._move_to(end)

    def _move_to(self, monotonic: float) -> None:
        self._wall += max(monotonic - self._monotonic, 0.0)
        self._monotonic = max(monotonic, self._monotonic)


async def settle() -> None:
    """Let everything run that needs no time."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)
