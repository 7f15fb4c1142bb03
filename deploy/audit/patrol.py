"""Walks along the chain of the history, a little at a time and round after round, so that an event that was changed is
noticed without anybody asking. Only the chain: what decisions were made from is checked by `teal audit verify`.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from deploy.audit.chain import GENESIS, linked

log = logging.getLogger(__name__)

AT_ONCE = 500  # events; some 10 ms of every scrape


class Walked(Protocol):
    """The history at one moment."""

    def head(self) -> tuple[int, str] | None: ...
    def events(self, since: int = 0, most: int | None = None) -> Iterable[Mapping[str, Any]]: ...


class Patrol:
    """`intact` is True until something is wrong, and again after a round in which nothing was."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.intact = True
        self._at_once = at_once
        self._seq, self._hash = 0, GENESIS
        self._clean = True  # this round, so far

    def walk(self, history: Walked) -> None:
        """Go on from where the last walk ended."""
        events = list(history.events(self._seq, self._at_once))
        for event in events:
            if not _follows(event, self._seq, self._hash):
                self._found(f"event {event['seq']} does not follow from what stands before it")
            self._seq, self._hash = event["seq"], event["hash"]
        if len(events) < self._at_once:
            head = history.head()
            if head is not None and head != (self._seq, self._hash):
                self._found(f"the history ends with event {self._seq}, and event {head[0]} was the latest")
            self.intact = self._clean
            self._seq, self._hash, self._clean = 0, GENESIS, True

    def _found(self, what: str) -> None:
        if self.intact:
            log.error("the history is not what was recorded: %s; teal audit verify says more", what)
        self.intact = self._clean = False


def _follows(event: Mapping[str, Any], seq: int, previous: str) -> bool:
    try:
        made = linked(previous, event)
    except (TypeError, ValueError):  # a column holds what no release of Teal writes there
        return False
    return bool(event["seq"] == seq + 1 and event["previous_hash"] == previous and event["hash"] == made)
