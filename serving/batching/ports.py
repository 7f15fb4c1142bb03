"""What the batcher tells and asks others: who counts its facts, and who knows which inputs are deadly."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from contracts.errors import Unavailable
from contracts.signature import Signature
from serving.batching.tickets import Outputs


class BatchFacts(Protocol):
    """What the batcher tells; telemetry counts it."""

    def ran(self, rows: int, padding: int, seconds: float, ok: bool) -> None:
        """One engine run ended."""

    def ran_alone(self, rows: int, padding: int, seconds: float) -> None:
        """One engine run ended well, of a request that waited for nobody: `ran` and `waited` in one, for the hot
        path."""

    def waited(self, seconds: float) -> None:
        """A caller's rows got their turn after this long."""

    look_from: float  # monotonic seconds from when the outputs of another run are wanted by `saw`

    def saw(self, signature: Signature, outputs: Outputs, now: float) -> None:
        """The outputs of one run, all rows of it, at a moment that is not before `look_from`."""

    def wrong(self, reason: str) -> None:
        """The model answered with something that its signature rules out."""


class Guardian(Protocol):
    """Keeps inputs that end processes out of the engine; see serving.poison.guard."""

    watching: bool  # whether anybody is suspected at all

    @property
    def begin(self) -> Callable[[list[int]], None]:
        """Say that the requests with these marks are about to enter the engine."""

    @property
    def end(self) -> Callable[[], None]:
        """Say that they are out again."""

    def suspects(self, mark: int) -> bool:
        """Whether a request with this mark must not enter the engine."""

    def suspects_retried(self, mark: int) -> bool:
        """The same of one that another worker did not answer."""

    def examine(self, signature: str, inputs: Outputs, mark: int, deadline: float) -> "asyncio.Future[Outputs]":
        """Have it computed elsewhere; raises what the caller is to be told."""


class Unguarded:
    """Suspects nobody: for engines that cannot end the process."""

    watching = False

    def begin(self, marks: list[int]) -> None:
        return

    def end(self) -> None:
        return

    def suspects(self, mark: int) -> bool:
        return False

    def suspects_retried(self, mark: int) -> bool:
        return False

    def examine(self, signature: str, inputs: Outputs, mark: int, deadline: float) -> "asyncio.Future[Outputs]":
        raise Unavailable("nobody here tries requests alone")
