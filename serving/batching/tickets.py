"""What the batcher remembers of a caller: a ticket, in one or more parts, each small enough for one run.

A ticket is answered exactly once, through its future; a caller who leaves cancels that future.
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np

from contracts.signature import Signature
from serving.engine.base import Array

Outputs = dict[str, Array]


@dataclass(slots=True, eq=False)
class Ticket:
    """One waiting caller. `queued` counts the rows that still stand in the queue, `size` is the bytes of all inputs,
    `missing` the parts without outputs, `mark` names the inputs; `started` says that the first part has left the queue,
    which has to happen before `start_by`; `expected` is the seconds it was thought to take, by costs alone."""

    future: "asyncio.Future[Outputs]"
    arrived: float
    expected: float
    start_by: float
    deadline: float
    missing: int
    queued: int
    size: int
    mark: int
    started: bool = False
    answers: dict[int, Outputs] = field(default_factory=dict)

    @property
    def due(self) -> float:
        """When this caller has to be told something."""
        return self.deadline if self.started else self.start_by

    def answer(self, index: int, outputs: Outputs) -> None:
        """Take the outputs of one part; with the last one the caller is answered. A caller who left gets nothing."""
        if self.future.done():
            return
        self.answers[index] = outputs
        self.missing -= 1
        if self.missing == 0:
            pieces = [self.answers[i] for i in sorted(self.answers)]
            self.future.set_result(pieces[0] if len(pieces) == 1 else _concatenate(pieces))

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless the caller was answered or has left."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class Part:
    """Rows of one ticket that are computed in one run. Parts with equal `key` may share a batch; `turn` is the caller's
    priority, then the order of arrival over all lines: the smaller goes first."""

    ticket: Ticket
    index: int
    turn: tuple[int, int]
    signature: Signature
    key: tuple[object, ...]
    inputs: dict[str, Array]
    rows: int


def _concatenate(pieces: list[Outputs]) -> Outputs:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
