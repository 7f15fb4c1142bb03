"""How busy a live version is now, from two looks at its counters: what a plan's forecast is made of.

Only measures; what follows from it is deploy.rollout.forecast.
"""

from dataclasses import dataclass

from contracts.clock import Clock
from contracts.errors import Unavailable
from deploy.evidence.counters import Gap
from deploy.evidence.pairing import Anchor, Both, anchor, stretch
from deploy.ports import Counters
from deploy.rollout.forecast import Live

PACE_SECONDS = 3.0
"""How long a measurement takes when somebody waits for it."""


@dataclass(frozen=True)
class Glance:
    """The counters of one version at one moment."""

    model: str
    version: int
    begun: Anchor


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

    async def measure(self, model: str, version: int, seconds: float) -> Pace:
        """Takes `seconds`. Raises Unavailable when it cannot be known."""
        glance = await self.glance(model, version)
        await self._clock.sleep(seconds)
        return await self.since(glance)

    async def glance(self, model: str, version: int) -> Glance:
        """Raises Unavailable when the counters cannot be asked."""
        begun = anchor(await self._look(model, version))
        if isinstance(begun, Gap):
            raise _unknown(version, begun)
        return Glance(model, version, begun)

    async def since(self, before: Glance) -> Pace:
        """What happened since then. Raises Unavailable when it cannot be known."""
        found = stretch(before.begun, await self._look(before.model, before.version))
        if isinstance(found, Gap):
            raise _unknown(before.version, found)
        _, passed = found
        arm, seconds = passed.counted.errors.live, passed.until - passed.since
        return Pace(Live(arm.units / seconds, arm.bad / arm.units if arm.units else 0.0), arm.units, seconds)

    async def _look(self, model: str, version: int) -> Both:
        """The version beside itself: all that is asked for is what Envoy counts of it."""
        looked = await self._counters.look({(model, version)})
        sample = looked.samples.get((model, version), {})
        return Both(sample, sample, at=looked.at)


def _unknown(version: int, gap: Gap) -> Unavailable:
    return Unavailable(f"what version {version} answers cannot be known now: {gap.reason}")
