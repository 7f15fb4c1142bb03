"""Make before break: how Envoy gets from one routing table to the next without losing a request.

The one place that knows the order. What the messages look like is decided in snapshot.py and below, how they travel
in ads.py.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from contracts.clock import Clock
from contracts.errors import Unavailable
from contracts.limits import LIMITS, Limits
from router.ads import Ads, Kind
from router.envoy import POLL_SECONDS, ClusterFacts
from router.errors import PublishRefused, PublishTimedOut
from router.naming import MIRROR, kind_of, version_of
from router.snapshot import Resource, Snapshot, follow
from router.table import RoutingTable

log = logging.getLogger(__name__)

EMPTY: Mapping[str, Resource] = {}


@dataclass(frozen=True)
class Patience:
    """How long a publish waits for what, in seconds."""

    ack: float = 10.0  # for Envoy to answer, or to connect at all; and for each resource that is new to it:
    ack_each: float = 0.01  # a cluster takes it a millisecond or two, the routes of a model half of one
    warm: float = 10.0  # for a worker of each version that is to take traffic to pass a health check
    settle: float = 5.0  # for Envoy's threads to take up acknowledged routes
    drain: float = LIMITS.request_seconds + 5.0  # for requests under way on a version that lost its traffic


@dataclass(frozen=True)
class Published:
    """Proof that Envoy has a table: its version, and the seconds from publish to the acknowledgement of its routes."""

    version: str
    seconds: float


class Facts(Protocol):
    """What a publisher asks of Envoy's admin (router/envoy.py)."""

    async def clusters(self, names: Collection[str] | None = None) -> dict[str, ClusterFacts]: ...

    async def healthy(self, names: Collection[str]) -> frozenset[str]: ...


class TakenUp(Protocol):
    """What a publisher asks of the barrier (router/barrier.py)."""

    async def passed(self, mark: str, seconds: float) -> None: ...


class Publisher:
    """Publishes one table at a time."""

    def __init__(
        self,
        ads: Ads,
        facts: Facts,
        barrier: TakenUp,
        clock: Clock,
        *,
        limits: Limits = LIMITS,
        patience: Patience | None = None,
    ) -> None:
        self._ads = ads
        self._facts = facts
        self._barrier = barrier
        self._clock = clock
        self._limits = limits
        self._patience = patience or Patience()
        self._lock = asyncio.Lock()
        self._former: Snapshot | None = None

    async def publish(self, table: RoutingTable) -> Published:
        """Make Envoy route by `table` and return once no new request is routed by the former one, requests under way
        on versions that lost their traffic have ended, and what is no longer needed is gone.

        Raises PublishRefused with Envoy's own words and PublishTimedOut; in both cases, and when cancelled, the
        former table stays in force.
        """
        async with self._lock:
            # In a thread: ten thousand models take a second, and the event loop has other callers.
            former = self._former
            wanted = await asyncio.to_thread(_complete, former, table, self._limits)
            started = self._clock.monotonic()
            try:
                fresh = await self._add(former, wanted)
                await self._wait_until_warm(fresh, former, wanted)
                switched = await self._switch(former, wanted)
            except BaseException:
                self._return_to(former)
                raise
            self._former = wanted
            seconds = self._clock.monotonic() - started
            if switched:
                await self._wait_until_drained(former, wanted)
            await self._remove(wanted)
            return Published(wanted.version, seconds)

    async def _add(self, former: Snapshot | None, wanted: Snapshot) -> frozenset[str]:
        """What is new comes beside what is there: an Envoy that restarts in the middle needs both. Returns the names
        of the clusters that are new to Envoy."""
        clusters = {**(former.clusters if former else EMPTY), **wanted.clusters}
        endpoints = {**(former.endpoints if former else EMPTY), **wanted.endpoints}
        fresh = wanted.clusters.keys() - self._ads.known(Kind.CLUSTERS).keys()
        # Offered together, because Envoy does not finish a cluster without its endpoints.
        self._ads.offer(Kind.ENDPOINTS, endpoints, prune=False)
        if former is None:  # for Envoys that only begin; of the others, weights wait for the routes
            self._ads.offer(Kind.WEIGHTS, wanted.weights, prune=False)
        seconds = self._patience.ack + self._patience.ack_each * len(fresh)
        await self._ads.send(Kind.CLUSTERS, clusters, prune=False, seconds=seconds)
        await self._ads.send(Kind.ENDPOINTS, endpoints, prune=False, seconds=seconds)
        return frozenset(fresh)

    async def _wait_until_warm(self, fresh: frozenset[str], former: Snapshot | None, wanted: Snapshot) -> None:
        """Acknowledged is not ready: Envoy acknowledges a cluster before the first health check of its workers.

        Waited for are the clusters that are new and those that gain traffic, as far as they have an endpoint. An Envoy
        without routes has no caller to protect: there, one broken model must not keep all others from being served.
        """
        gaining = {n for n, share in wanted.shares.items() if former and share > former.shares.get(n, 0)}
        added = fresh - (former.clusters.keys() if former else set())
        needed = (added | gaining) & wanted.populated
        if not needed:
            return
        until = self._clock.monotonic() + self._patience.warm
        while cold := await self._cold(needed):
            if self._clock.monotonic() >= until:
                sentence = f"no worker of {_readable(cold)} passed a health check within {self._patience.warm:g} s"
                if self._ads.known(Kind.ROUTES):
                    raise PublishTimedOut(f"{sentence}; see the worker's log")
                log.warning("%s; the other models are served without it", sentence)
                return
            await self._clock.sleep(POLL_SECONDS)

    async def _cold(self, needed: Collection[str]) -> set[str]:
        try:
            return set(needed) - await self._facts.healthy(needed)
        except Unavailable:  # Envoy restarts; whether it comes back in time is the caller's question
            return set(needed)

    async def _switch(self, former: Snapshot | None, wanted: Snapshot) -> bool:
        """Change routes and weights. Says whether there was anything to change; endpoints alone need no waiting."""
        if self._knows(Kind.ROUTES, wanted.routes) and self._knows(Kind.WEIGHTS, wanted.weights):
            self._ads.offer(Kind.ROUTES, wanted.routes, prune=True)
            self._ads.offer(Kind.WEIGHTS, wanted.weights, prune=False)
            return False
        seconds = self._patience.ack + self._patience.ack_each * len(wanted.fragments)
        ahead = former.ahead_to(wanted) if former and not self._knows(Kind.ROUTES, wanted.routes) else None
        if ahead is not None:
            await self._ads.send(Kind.WEIGHTS, ahead, prune=False, seconds=self._patience.ack)
        await self._ads.send(Kind.ROUTES, wanted.routes, prune=True, seconds=seconds)
        await self._ads.send(Kind.WEIGHTS, wanted.weights, prune=False, seconds=self._patience.ack)
        try:
            await self._barrier.passed(wanted.standing, self._patience.settle)
        except Unavailable as error:
            # The routes are acknowledged and cannot fail any more. That nobody gets through to ask, say because callers
            # hold every connection, must not undo a rollback.
            log.warning("table %s is acknowledged, its use is not confirmed: %s", wanted.version, error)
        return True

    def _knows(self, kind: Kind, resources: Mapping[str, Resource]) -> bool:
        return self._ads.known(kind) == {name: resource.version for name, resource in resources.items()}

    async def _wait_until_drained(self, former: Snapshot | None, wanted: Snapshot) -> None:
        """Until no request is under way on what lost all its traffic, bounded by the longest a request may take.

        Seen idle twice in a row, further apart than a retry's back-off, in which a request is counted nowhere.
        Nobody waits for the answers of a mirror.
        """
        losing = {n for n, share in (former.shares if former else {}).items() if share and not wanted.shares.get(n)}
        losing |= self._ads.known(Kind.CLUSTERS).keys() - wanted.clusters.keys()
        losing = {name for name in losing if kind_of(name) != MIRROR}
        if not losing:
            return
        until, idle = self._clock.monotonic() + self._patience.drain, 0
        while idle < 2:
            try:
                facts = await self._facts.clusters(losing)
            except Unavailable:  # Envoy died, and every request with it
                return
            idle = idle + 1 if all(f.idle for f in facts.values()) else 0
            if self._clock.monotonic() >= until:
                log.warning("%s still has requests after %g s", _readable(losing), self._patience.drain)
                return
            await self._clock.sleep(POLL_SECONDS)

    async def _remove(self, wanted: Snapshot) -> None:
        """Clusters first: with its cluster gone, Envoy lets go of the endpoints by itself.

        The table is in force by now, so a failure here is none of the publish: what is left is removed as soon as
        Envoy answers again, since it stays offered."""
        try:
            gone = self._ads.known(Kind.CLUSTERS).keys() - wanted.clusters.keys()
            seconds = self._patience.ack + self._patience.ack_each * len(gone)
            await self._ads.send(Kind.CLUSTERS, wanted.clusters, prune=True, seconds=seconds)
            await self._ads.send(Kind.ENDPOINTS, wanted.endpoints, prune=True, seconds=seconds)
        except (PublishRefused, PublishTimedOut) as error:
            self._ads.offer(Kind.ENDPOINTS, wanted.endpoints, prune=True)
            log.warning("table %s is in force, what it replaced is not removed yet: %s", wanted.version, error)

    def _return_to(self, former: Snapshot | None) -> None:
        if former is None:
            self._ads.withdraw()  # an Envoy that outlived its control plane keeps what it had
            return
        self._ads.offer(Kind.ROUTES, former.routes, prune=True)
        self._ads.offer(Kind.WEIGHTS, former.weights, prune=False)
        self._ads.offer(Kind.CLUSTERS, former.clusters, prune=True)
        self._ads.offer(Kind.ENDPOINTS, former.endpoints, prune=True)


def _complete(former: Snapshot | None, table: RoutingTable, limits: Limits) -> Snapshot:
    """Build a snapshot and everything it computes on first use."""
    snapshot = follow(former, table, limits)
    _ = snapshot.routes, snapshot.version
    return snapshot


def _readable(names: Collection[str]) -> str:
    versions = sorted({version_of(name) for name in names})
    more = f" and {len(versions) - 3} more" if len(versions) > 3 else ""
    return ", ".join(versions[:3]) + more
