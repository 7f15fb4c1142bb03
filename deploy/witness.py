"""What rollouts are told of the world: new counts of both versions between one look at the counters and the next.

Keeps the last look of each rollout in memory only. After a restart the first look is an anchor and says nothing, so
what was counted while nobody watched is dropped, never used twice and never guessed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from contracts.clock import Clock
from contracts.errors import TealError
from contracts.metrics import LATENCY_SECONDS
from deploy.evidence.counted import Counted
from deploy.evidence.counters import Gap, GapKind, Sample, counted, grown
from deploy.ports import Counters
from deploy.rollout.deployment import Deployment

LOOK_SECONDS = 2.0

Pair = tuple[str, int, int]
"""Model, live version, candidate: what one rollout compares."""


@dataclass(frozen=True)
class Testimony:
    """What one rollout is told: seconds since it was told before, new counts, and why there are none. `kind` is None
    when that is only because nobody looked since."""

    seconds: float = 0.0
    counted: Counted | None = None
    gap: str = "nothing was counted yet"
    kind: GapKind | None = None


@dataclass
class _Watched:
    told: float  # monotonic seconds
    live: Sample | None = None
    candidate: Sample | None = None


class Witness:
    """Belongs to one event loop. `look`, then `tell` each rollout once."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._watched: dict[Pair, _Watched] = {}
        self._looked = float("-inf")
        self._latest: Mapping[tuple[str, int], Sample] | None = None
        self._gap = "nothing was counted yet"
        self._kind: GapKind | None = None

    async def look(self, deployments: Collection[Deployment]) -> None:
        """Look at the counters of everything on trial, unless the last look is too fresh to tell anything new."""
        pairs = {pair for d in deployments if (pair := pair_of(d)) is not None}
        self._watched = {pair: seen for pair, seen in self._watched.items() if pair in pairs}
        self._latest, self._kind = None, None
        if not pairs or self._clock.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock.monotonic()
        try:
            self._latest = await self._counters.look({(m, v) for m, *both in pairs for v in both})
        except TealError as error:
            self._gap, self._kind = error.message, GapKind.UNAVAILABLE

    def tell(self, deployment: Deployment) -> Testimony:
        """What is new since this rollout was told before."""
        pair, now = pair_of(deployment), self._clock.monotonic()
        if pair is None:
            return Testimony()
        before = self._watched.setdefault(pair, _Watched(now))
        seconds, before.told = now - before.told, now
        if self._latest is None:
            return Testimony(seconds, None, self._gap, self._kind)
        model, *versions = pair
        live, candidate = (self._latest.get((model, version), {}) for version in versions)
        block = _block(before, live, candidate)
        before.live, before.candidate = live, candidate
        return (
            Testimony(seconds, None, block.reason, block.kind) if isinstance(block, Gap) else Testimony(seconds, block)
        )


def pair_of(deployment: Deployment) -> Pair | None:
    """What a deployment on trial compares."""
    if deployment.trial is None or deployment.live is None or deployment.candidate is None:
        return None
    return deployment.model, deployment.live.version, deployment.candidate.version


def _block(before: _Watched, live: Sample, candidate: Sample) -> Counted | Gap:
    if before.live is None or before.candidate is None:
        return Gap("this is the first look at its counters", GapKind.FIRST_LOOK)
    here, there = grown(before.live, live), grown(before.candidate, candidate)
    if isinstance(here, Gap):
        return here
    if isinstance(there, Gap):
        return there
    return counted(here, there, len(LATENCY_SECONDS))
