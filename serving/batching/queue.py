"""The rows that wait, by priority and then oldest first, in lines of what may share a batch. Bounded by whoever puts
them in."""

from bisect import bisect
from collections import deque

from serving.batching.curve import CostCurve
from serving.batching.policy import batch_rows, timely_rows
from serving.batching.tickets import Part, Ticket


class Queue:
    """Waiting parts. `rows` and `size` (bytes) count what waits, callers who have left not included."""

    def __init__(self) -> None:
        self.rows = 0
        self.size = 0
        self._lines: dict[tuple[object, ...], deque[Part]] = {}

    def put(self, part: Part) -> None:
        line = self._lines.setdefault(part.key, deque())
        if not line or line[-1].turn < part.turn:
            line.append(part)
        else:  # more urgent than some who came before
            line.insert(bisect(line, part.turn, key=lambda waiting: waiting.turn), part)

    def admit(self, ticket: Ticket) -> None:
        """Count a ticket whose parts were put in."""
        self.rows += ticket.queued
        self.size += ticket.size

    def forget(self, ticket: Ticket) -> None:
        """Stop counting what still waits of a ticket that was answered or left. Its parts are skipped later."""
        self.rows -= ticket.queued
        ticket.queued = 0
        if not ticket.started:
            self.size -= ticket.size
            ticket.started = True

    def first(self) -> Part | None:
        """The part whose turn it is, or None when nobody waits."""
        head: Part | None = None
        for key in list(self._lines):
            line = self._lines[key]
            while line and line[0].ticket.future.done():
                line.popleft()
            if not line:
                del self._lines[key]
            elif head is None or line[0].turn < head.turn:
                head = line[0]
        return head

    @property
    def lines(self) -> int:
        """How many kinds of rows wait that cannot share a run."""
        return len(self._lines)

    def take(self, head: Part, curve: CostCurve, company: int, load: float, now: float) -> list[Part]:
        """Remove and return the parts of the next run: `head`, and those of its line that go with it up to `company`
        rows in all; `load` as batch_rows has it. Where that is worth it, the run is small enough to end in time for
        all of its rows that can be in time at all."""
        line = self._lines[head.key]
        parts: list[Part] = []
        total = 0
        limit = min(curve.buckets[-1], company) if head.signature.batched else head.rows
        while line and (not parts or total + line[0].rows <= limit):
            part = line.popleft()
            if not part.ticket.future.done():
                parts.append(part)
                total += part.rows
            if total == limit:
                break
        if head.signature.batched:
            left = [part.ticket.deadline - now for part in parts]
            able = (seconds for part, seconds in zip(parts, left, strict=True) if seconds > curve.seconds(part.rows))
            wanted = timely_rows(curve, batch_rows(curve, total, load), min(able, default=0.0))
            while len(parts) > 1 and total > wanted:
                total -= parts[-1].rows
                line.appendleft(parts.pop())
        for part in parts:
            self._leave(part)
        return parts

    def _leave(self, part: Part) -> None:
        ticket = part.ticket
        ticket.queued -= part.rows
        self.rows -= part.rows
        if not ticket.started:
            self.size -= ticket.size
            ticket.started = True
