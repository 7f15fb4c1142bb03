"""What rollouts are told of the world: new counts of both versions between one look at the counters and the next.

Keeps in memory only where each rollout's next stretch begins. After a restart the first look is an anchor and says
nothing, so what was counted while nobody watched is dropped, never used twice and never guessed.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from contracts.clock import Clock
from contracts.errors import TealError
from deploy.evidence.counted import NOT_COMPARED, Counted
from deploy.evidence.counters import Gap, GapKind, Looked, Version
from deploy.evidence.opinions import Opinions, follow, weigh
from deploy.evidence.pairing import Both, Stretch
from deploy.ports import Counters, Outcomes
from deploy.rollout.deployment import Deployment
from deploy.rollout.trial import Stage

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# From one look to the next at least so many times as long as it took: Envoy answers in the thread that takes
# configurations.
REST = 4
PATIENCE_SECONDS = 0.25  # that a tick waits for a look; one that takes longer is told of in a later tick

Pair = tuple[str, int, int]
"""Model, live version, candidate: what one rollout compares."""


@dataclass(frozen=True)
class Testimony:
    """What one rollout is told: seconds since it was told before, new counts, and why there are none, or not all.
    `kind` is None when that is only because nobody looked since."""

    seconds: float = 0.0
    counted: Counted | None = None
    gap: str = "nothing was counted yet"
    kind: GapKind | None = None


class _Watch:
    """Looks at one source again and again, one look at a time, and never keeps anybody waiting for long."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._under_way: asyncio.Task[Looked] | None = None
        self._began = float("-inf")
        self._took = 0.0
        self.latest: Looked | Gap = _NOTHING_YET

    async def look(self, versions: Collection[Version]) -> None:
        """`latest` is what is new since the last call; a Gap of the kind PENDING when nothing is."""
        self.latest = _NOTHING_YET
        if self._under_way is None:
            if self._clock.monotonic() - self._began < max(LOOK_SECONDS, REST * self._took):
                return
            self._began = self._clock.monotonic()
            self._under_way = asyncio.create_task(self._counters.look(versions), name="look at counters")
        done, _ = await asyncio.wait({self._under_way}, timeout=PATIENCE_SECONDS)
        if not done:
            return
        task, self._under_way, self._took = self._under_way, None, self._clock.monotonic() - self._began
        try:
            self.latest = task.result()
        except TealError as error:
            self.latest = Gap(error.message, GapKind.UNAVAILABLE)

    def forget(self) -> None:
        """What a look that is under way will find is of no use any more."""
        if self._under_way is not None and not self._under_way.cancel():
            self._under_way.exception()  # it has ended, and nobody will ask how
        self._under_way, self.latest = None, _NOTHING_YET


_NOTHING_YET = Gap("nothing new was counted yet", GapKind.PENDING)


@dataclass
class _Watched:
    told: float  # monotonic seconds
    opinions: Opinions = field(default_factory=Opinions)


class Witness:
    """Belongs to one event loop. `look`, then `tell` each rollout once. With Prometheus, `counters` are the second
    opinion (deploy/evidence/opinions.py)."""

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        prometheus: Counters | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self._own = _Watch(counters, clock)
        self._prometheus = None if prometheus is None else _Watch(prometheus, clock)
        self._outcomes = outcomes
        self._clock = clock
        self._watched: dict[Pair, _Watched] = {}

    async def look(self, deployments: Collection[Deployment]) -> None:
        """Look at the counters of everything on trial, unless the last look is too fresh to tell anything new."""
        pairs = {pair for d in deployments if (pair := pair_of(d)) is not None}
        self._watched = {pair: seen for pair, seen in self._watched.items() if pair in pairs}
        versions = {(model, version) for model, *both in pairs for version in both}
        for watch in (self._own, self._prometheus):
            if watch is not None:
                watch.latest = _NOTHING_YET
        if versions:
            await asyncio.gather(*(w.look(versions) for w in (self._own, self._prometheus) if w is not None))

    def tell(self, deployment: Deployment) -> Testimony:
        """What is new since this rollout was told before."""
        pair, now = pair_of(deployment), self._clock.monotonic()
        if pair is None:
            return Testimony()
        before = self._watched.setdefault(pair, _Watched(now))
        seconds, before.told = now - before.told, now
        said = self._weigh(deployment, pair, before, now)
        if isinstance(said, Stretch):
            judged, compared = self._outcomes.take(deployment) if self._outcomes else ((), NOT_COMPARED)
            counted = replace(said.counted, ago=said.asked - said.since, judged=judged, compared=compared)
            return Testimony(seconds, counted, counted.partial)
        return Testimony(seconds, None, said.reason, None if said.kind is GapKind.PENDING else said.kind)

    def forget(self) -> None:
        """Begin anew: what was counted so far may have been used by somebody else."""
        self._watched = {}
        for watch in (self._own, self._prometheus):
            if watch is not None:
                watch.forget()

    def _weigh(self, d: Deployment, pair: Pair, before: _Watched, now: float) -> Stretch | Gap:
        past, own = before.opinions, _both(self._own.latest, pair, d)
        if self._prometheus is None:
            line, said = follow(past.own, own)
            before.opinions = Opinions(own=line)
            return said
        latest = self._prometheus.latest
        asked = latest.at if isinstance(latest, Looked) else None
        before.opinions, said = weigh(past, _both(latest, pair, d), own, asked, now)
        if before.opinions.by_own != past.by_own:
            log.warning(
                "model %s: %s",
                d.model,
                _HANDOVER[before.opinions.by_own] + (f" ({said.reason})" if isinstance(said, Gap) else ""),
            )
        return said


_HANDOVER = {
    True: "evidence comes from this gateway's own scraper until Prometheus is well again",
    False: "evidence comes from Prometheus again",
}


def pair_of(deployment: Deployment) -> Pair | None:
    """What a deployment on trial compares."""
    if deployment.trial is None or deployment.live is None or deployment.candidate is None:
        return None
    return deployment.model, deployment.live.version, deployment.candidate.version


def _both(latest: Looked | Gap, pair: Pair, d: Deployment) -> Both | Gap:
    if isinstance(latest, Gap):
        return latest
    model, *versions = pair
    samples = [latest.samples.get((model, version), {}) for version in versions]
    mirrored = d.trial is not None and d.trial.stage is Stage.SHADOW
    return Both(samples[0], samples[1], mirrored, latest.at)
