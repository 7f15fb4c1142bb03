"""Which control plane decides when several share a database. The others do as it decided, and wait.

Safety is the epoch's: every automatic write is refused once somebody else has taken over (store/leases.py). Times only
say when to try: a holder believes in itself for half the lease after its last renewal, on its monotonic clock; whoever
waits takes over when the lease is past by its wall clock, or has not been renewed for a whole lease of its own time.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from contracts.clock import Clock
from contracts.errors import TealError
from deploy.store.leases import Tenure

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0


class Leases(Protocol):
    """Where the lease is kept; the store."""

    def tenure(self) -> Tenure | None:
        """Who decides; None when nobody ever did."""

    def succeed(self, former: Tenure | None, following: Tenure) -> bool:
        """Put one in the place of exactly the other; False when somebody else was there first."""


class Lease:
    """Belongs to one event loop. `holder` names the home: there is one control plane per home, its lock sees to that,
    so a lease in its own name is one of a dead predecessor and is taken over at once."""

    def __init__(self, leases: Leases, clock: Clock, *, holder: str, seconds: float = LEASE_SECONDS) -> None:
        self._leases = leases
        self._clock = clock
        self._holder = holder
        self._seconds = seconds
        self._held: Tenure | None = None
        self._renewed = float("-inf")  # monotonic seconds, from before the renewal
        self._foreign: tuple[Tenure, float] | None = None  # somebody else's, and since when it has not changed
        self.epoch = 0  # of the latest time that this control plane led
        self.fenced = 0  # writes that were refused

    @property
    def leads(self) -> bool:
        """Whether this control plane may decide now."""
        return self._held is not None and self._clock.monotonic() - self._renewed < self._seconds / 2

    async def keep(self) -> bool:
        """Renew the lease when that is due, or try to take it over; say whether this control plane may decide. Raises
        what the database raises, once the time is over for which it was sure without asking."""
        now = self._clock.monotonic()
        if self.leads and now - self._renewed < self._seconds / 4:
            return True
        try:
            tenure = await asyncio.to_thread(self._take if self._held is None else self._renew)
        except TealError:
            if self.leads:
                return True
            raise
        self._change(tenure)
        if tenure is not None:
            self._renewed = now
        return self.leads

    def was_fenced(self) -> None:
        """A write was refused: somebody else decides."""
        self.fenced += 1
        self._change(None)

    def _change(self, tenure: Tenure | None) -> None:
        if tenure is None and self._held is not None:
            log.warning("another control plane decides about rollouts now; this one does as it decides")
        if tenure is not None and tenure.epoch != self.epoch:
            log.info("this control plane decides about rollouts, epoch %d", tenure.epoch)
            self.epoch = tenure.epoch
        self._held = tenure

    def _renew(self) -> Tenure | None:
        """A lease that is past is still ours as long as nobody took it."""
        if self._held is None:
            raise AssertionError("nothing is held")
        following = replace(self._held, until=self._clock.wall() + self._seconds)
        return following if self._leases.succeed(self._held, following) else None

    def _take(self) -> Tenure | None:
        found = self._leases.tenure()
        if found is not None and not self._is_over(found):
            return None
        epoch = 1 if found is None else found.epoch + 1
        following = Tenure(self._holder, epoch, self._clock.wall() + self._seconds)
        return following if self._leases.succeed(found, following) else None

    def _is_over(self, found: Tenure) -> bool:
        now = self._clock.monotonic()
        if self._foreign is None or self._foreign[0] != found:
            self._foreign = found, now
        unchanged = now - self._foreign[1]
        return found.holder == self._holder or self._clock.wall() >= found.until or unchanged >= self._seconds
