"""How busy a live version is now, from two looks at its counters: what a plan's forecast is made of.

Only measures; what follows from it is deploy.rollout.forecast.
"""

from dataclasses import dataclass

from contracts.clock import Clock
from contracts.errors import TealError, Unavailable
from deploy.evidence.counters import Gap, Sample
from deploy.evidence.pairing import Both, anchor, stretch
from deploy.ports import Counters
from deploy.rollout.forecast import Live

PACE_SECONDS = 3.0
"""How long a measurement takes when somebody waits for it."""


@dataclass(frozen=True)
class Glance:
    """The counters of one version at one moment, on the monotonic clock."""

    model: str
    version: int
    at: float
    sample: Sample


@dataclass(frozen=True)
class Pace:
    """`requests` were counted in `seconds`, and `live` is what that is a second."""

    live: Live
    requests: int
    seconds: float


class Pacer:
    """Looks at counters that are up to date: what a Prometheus scraped last may be older than a whole measurement."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    async def measure(self, model: str, version: int, seconds: float = PACE_SECONDS) -> Pace:
        """Takes `seconds`. Raises Unavailable when it cannot be known."""
        glance = await self.glance(model, version)
        await self._clock.sleep(seconds)
        return await self.since(glance)

    async def glance(self, model: str, version: int) -> Glance:
        """Raises Unavailable when the counters cannot be asked."""
        seen = await self._counters.look({(model, version)})
        return Glance(model, version, self._clock.monotonic(), seen.samples.get((model, version), {}))

    async def since(self, before: Glance) -> Pace:
        """What happened since then. Raises Unavailable when it cannot be known."""
        now = await self.glance(before.model, before.version)
        seconds = now.at - before.at
        if seconds <= 0:
            raise Unavailable("no time has passed between two looks at the counters")
        begun = anchor(Both(before.sample, before.sample))
        found = begun if isinstance(begun, Gap) else stretch(begun, Both(now.sample, now.sample))
        if isinstance(found, Gap):
            raise Unavailable(f"what version {before.version} answers cannot be known now: {found.reason}")
        arm = found[1].counted.errors.live
        failing = arm.bad / arm.units if arm.units else 0.0
        return Pace(Live(arm.units / seconds, failing), arm.units, seconds)


async def known(pacer: Pacer, before: Glance | None) -> Pace | None:
    """What happened since then, or None when nobody can say."""
    if before is None:
        return None
    try:
        return await pacer.since(before)
    except TealError:
        return None
