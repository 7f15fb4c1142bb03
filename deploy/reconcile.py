"""The tick of the control plane: observe, decide, record, act. Makes workers and Envoy be what is recorded.

Crash anywhere, tick again: same end. What to decide is deploy.rollout.rules, what Envoy should do deploy.routing;
here is only the order of things, and who is told when they are done.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts.clock import Clock
from contracts.errors import TealError, Unavailable
from contracts.traffic import TrafficSplit
from deploy.audit.observations import Seen, rules_digest
from deploy.failpoints import reach
from deploy.lease import Lease
from deploy.onlooker import NOBODY, Onlooker
from deploy.ports import Counters, Fleet, Outcomes, Placement, Traffic, WorkerState, WorkerStatus
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.events import Observation, observe
from deploy.rollout.moves import Decision, stay
from deploy.rollout.rules import decide
from deploy.routing import PackageOf, joined, placement, placements, routing_table
from deploy.store.leases import Fenced
from deploy.store.standing import Author
from deploy.store.store import Store
from deploy.witness import Witness
from router.table import RoutingTable

log = logging.getLogger(__name__)

ACTOR = "teal"  # who moves a rollout when no operator did
TICK_SECONDS = 1.0  # deadlines and undo windows are looked at this often; everything else rings at once
RETRY_SECONDS = (0.2, 2.0)  # first and longest pause after a failed publish
UNDISTURBED_SECONDS = 2.0  # what a publish gets before newer facts may overtake it, and for each model:
UNDISTURBED_EACH = 0.002  # ten thousand models' routes take Envoy seconds, and who is overtaken begins from nothing


class _Overtaken(Exception):
    """A publish was given up for a newer one."""


@dataclass(frozen=True)
class AppliedModel:
    """What Envoy acknowledged of one model: the deployment's revision and the split (None: not routed)."""

    revision: int
    split: TrafficSplit | None


class _Look(NamedTuple):
    """What was seen of a deployment at that revision, and whether it has to be kept even if nothing follows from it."""

    observation: Observation
    revision: int
    news: bool


class Reconciler:
    """Belongs to one event loop. `run` ticks until it is cancelled; `start` does the first observation."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        traffic: Traffic,
        counters: Counters,
        package_of: PackageOf,
        clock: Clock,
        onlooker: Onlooker = NOBODY,
        prometheus: Counters | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._traffic = traffic
        self._package_of = package_of
        self._clock = clock
        self._onlooker = onlooker
        self._lease = Lease(store, clock, holder=store.owner)
        rules_digest()  # of the rules that run here, before anybody installs another release in their place
        self._witness = Witness(counters, clock, prometheus, outcomes)
        self._waited: dict[str, float] = {}  # seconds of rollouts that no record holds yet
        self._witnessing = 0  # the epoch in which the witness began to look
        self._bell = asyncio.Event()  # rung by commands and by the fleet
        self._ordered = asyncio.Event()  # rung by commands only: they end the pause after a failure
        self._told = asyncio.Event()  # replaced and set after every tick, for those who wait in `applied`
        self._table: RoutingTable | None = None  # what Envoy acknowledged last; None: this process does not know yet
        self._routed: tuple[Placement, ...] = ()  # workers that Envoy may still send requests to
        self._applied: dict[str, tuple[Deployment, AppliedModel]] = {}
        self._warming_since: dict[tuple[str, int, float], float] = {}
        self._problem: str | None = None
        self._unrecorded: str | None = None  # why a decision of the present tick could not be recorded
        self._failures = 0
        self._begun = 0  # ticks begun
        self._finished = 0  # the latest tick that finished all its work

    @property
    def problem(self) -> str | None:
        """Why the last tick could not finish its work; None when it did."""
        return self._problem

    @property
    def leader(self) -> bool:
        """Whether this control plane decides, rather than another one that shares its database."""
        return self._lease.leads

    @property
    def epoch(self) -> int:
        """Of the lease, the latest time that this control plane led; 0 before."""
        return self._lease.epoch

    @property
    def fenced_writes(self) -> int:
        """Writes of this control plane that were refused because another one decides since."""
        return self._lease.fenced

    def ring(self) -> None:
        """Ask for a tick: something was recorded, or Envoy came back."""
        self._bell.set()
        self._ordered.set()

    def first_table(self) -> RoutingTable:
        """What Envoy should do at the start of this process, before anything is acted on. Call after the fleet has
        adopted what lives: an Envoy that lived on must be handed the same endpoints again, not an empty table."""
        workers = self._fleet.workers()
        self._routed = self._still_running(workers)
        return routing_table(self._store.deployments(), workers, self._store.all_labels())

    def applied_of(self, model: str) -> AppliedModel | None:
        known = self._applied.get(model)
        return None if known is None else known[1]

    async def applied(
        self, model: str, revision: int, seconds: float, until: Callable[[Deployment], bool] = lambda _: True
    ) -> Deployment:
        """Return what is deployed once Envoy has acknowledged `revision` or a later one for which `until` holds.
        Raises Unavailable with what is in the way when that takes longer than `seconds`; what was recorded stays
        recorded and is tried on."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    told = self._told
                    known = self._applied.get(model)
                    if known is not None and known[0].revision >= revision and until(known[0]):
                        return known[0]
                    await told.wait()
        except TimeoutError:
            why = self._problem or "Envoy has not acknowledged it yet"
            raise Unavailable(
                f"model {model}: revision {revision} is recorded but not in force after {seconds:g} s: {why}. "
                "It is tried on; look at teal status"
            ) from None

    async def next_tick(self, seconds: float) -> None:
        """Return once everything recorded before this call is in force. Raises Unavailable with what is in the way
        when that takes longer than `seconds`."""
        goal = self._begun + 1
        self.ring()
        try:
            async with asyncio.timeout(seconds):
                while self._finished < goal:
                    await self._told.wait()
        except TimeoutError:
            why = self._problem or "Envoy has not acknowledged it yet"
            raise Unavailable(f"recorded but not in force after {seconds:g} s: {why}. It is tried on") from None

    async def run(self) -> None:
        """Tick whenever something was recorded, a worker changed or time has passed. Ticks never overlap."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ring_on_fleet(), name="fleet changes")
                while True:
                    self._bell.clear()
                    self._ordered.clear()
                    await self._tick_and_survive()
                    await self._rest()
        finally:
            self._witness.forget()

    async def tick(self) -> None:
        """One round. Raises what the traffic or the store raised; what was recorded before stays recorded."""
        workers = self._fleet.workers()
        leads = await self._leads()
        deployments = await asyncio.to_thread(self._store.deployments)
        if leads:
            deployments = await self._decide(deployments, workers)
        labels = await asyncio.to_thread(self._store.all_labels)
        await self._act(deployments, labels)

    async def _leads(self) -> bool:
        """Whether to decide in this tick. What another control plane has consumed meanwhile must not be used again, so
        whoever takes over begins to look anew."""
        try:
            leads = await self._lease.keep()
        except TealError as error:
            if error.message != self._problem:  # once, not every second
                log.warning("the lease could not be renewed, so nothing is decided: %s", error.message)
            self._unrecorded = error.message
            return False
        if leads and self._witnessing != self._lease.epoch:
            self._witness.forget()
            self._waited, self._witnessing = {}, self._lease.epoch
        return leads

    async def _decide(
        self, recorded: tuple[Deployment, ...], workers: tuple[WorkerStatus, ...]
    ) -> tuple[Deployment, ...]:
        """What follows from what was seen, recorded. A disk that takes no writes stops decisions, not traffic."""
        await self._witness.look(recorded)
        self._forget_warmed(recorded)
        now = self._clock.wall()
        own: dict[str, list[WorkerStatus]] = {}
        for worker in workers:
            own.setdefault(worker.model, []).append(worker)
        seen = {d.model: self._observe(d, own.get(d.model, ())) for d in recorded}
        moved = [
            d.model
            for d in recorded
            if seen[d.model].news or decide(d, seen[d.model].observation, now).action is not None
        ]
        if not moved:
            return recorded
        try:
            decided = await asyncio.to_thread(self._record, moved, seen, now)
        except Fenced as error:
            log.warning("%s", error.message)
            self._lease.was_fenced()
            return await asyncio.to_thread(self._store.deployments)
        except TealError as error:
            log.warning("what was decided could not be recorded: %s", error.message)
            self._unrecorded = error.message
            return recorded
        self._waited = {model: waited for model, waited in self._waited.items() if model not in decided}
        for before in recorded:
            if before.model in decided and decided[before.model].action is not None:
                self._onlooker.decided(before, decided[before.model], now)
        return tuple(decided[d.model].deployment if d.model in decided else d for d in recorded)

    def _record(self, models: list[str], seen: Mapping[str, "_Look"], now: float) -> dict[str, Decision]:
        """Decide inside the transaction: a command may have come in between. Evidence is written with its effect."""

        def rule(deployment: Deployment) -> tuple[Decision, Seen]:
            look = seen[deployment.model]
            told = Seen(now, look.observation)
            if deployment.revision != look.revision:  # a command came in between: this was seen of another deployment
                return stay(deployment, deployment.reason), told
            return decide(deployment, look.observation, now), told

        decisions = self._store.change_all(models, rule, author=Author(ACTOR, now, self._lease.epoch))
        for decision in decisions:
            if decision.action is not None:
                log.info("model %s: %s", decision.deployment.model, decision.reason)
        return {decision.deployment.model: decision for decision in decisions}

    def _observe(self, deployment: Deployment, workers: Sequence[WorkerStatus]) -> "_Look":
        """What there is to see of one model. Time in which nobody looked at the counters is kept for the next look:
        recording that it passed, for each rollout and every second, would be most of what is written."""
        told, waited = self._witness.tell(deployment), 0.0
        if deployment.trial is not None:
            self._onlooker.looked(deployment, told, self._clock.wall())
            waited = self._waited[deployment.model] = self._waited.get(deployment.model, 0.0) + told.seconds
        else:
            self._waited.pop(deployment.model, None)
        known = self._applied.get(deployment.model)
        observation = observe(
            deployment,
            workers,
            warming_seconds=self._warming_seconds(deployment),
            seconds=waited,
            counted=told.counted,
            gap=told.gap,
            in_force=known is not None and known[1].revision == deployment.revision,
        )
        return _Look(observation, deployment.revision, told.counted is not None or told.kind is not None)

    async def _act(self, deployments: tuple[Deployment, ...], labels: Mapping[str, Mapping[str, int]]) -> None:
        """Make before break: new workers first, then routes, and only then are the old workers let go."""
        wanted = placements(deployments, self._package_of)
        await self._fleet.converge(joined(wanted, self._routed))
        # Looked at again: a worker may have died while a decision was being written.
        table = routing_table(deployments, self._fleet.workers(), labels)
        if table != self._table:
            routed = self._routes_of(deployments)
            self._routed = joined(routed, self._routed)  # from now until the answer, Envoy may use either table
            await self._publish(table, any(d.trial is not None for d in deployments))
            self._table, self._routed = table, routed
        self._note_applied(deployments)
        await self._fleet.converge(wanted)

    async def _publish(self, table: RoutingTable, watched: bool) -> None:
        """Publish, unless the world moves on meanwhile: waiting for old requests to end may take half a minute, and a
        restarted worker or a rollback must not. While rollouts are `watched`, time is enough: their evidence is due. A
        publish may be cancelled at any time, so it is, and the next tick publishes what holds then. Raises _Overtaken
        in that case."""
        publishing = asyncio.create_task(self._publish_to_end(table), name="publish")
        overtaking = asyncio.create_task(self._bell.wait(), name="overtaking")
        try:
            await asyncio.wait({publishing}, timeout=UNDISTURBED_SECONDS + UNDISTURBED_EACH * len(table.models))
            longest = TICK_SECONDS if watched else None
            await asyncio.wait({publishing, overtaking}, return_when=asyncio.FIRST_COMPLETED, timeout=longest)
            if not publishing.done():
                raise _Overtaken
            publishing.result()
        finally:
            publishing.cancel()
            overtaking.cancel()
            await asyncio.gather(publishing, overtaking, return_exceptions=True)

    async def _publish_to_end(self, table: RoutingTable) -> None:
        reach("publish.before")
        await self._traffic.publish(table)
        reach("publish.acknowledged")

    def _routes_of(self, deployments: tuple[Deployment, ...]) -> tuple[Placement, ...]:
        return tuple(
            placement(d.model, place, self._package_of)
            for d in deployments
            if d.live is not None
            for place in d.routed()
        )

    def _note_applied(self, deployments: tuple[Deployment, ...]) -> None:
        for d in deployments:
            known = self._applied.get(d.model)
            self._onlooker.applied(None if known is None else known[0], d, self._clock.wall())
        self._applied = {d.model: (d, AppliedModel(d.revision, d.split())) for d in deployments}

    async def _tick_and_survive(self) -> None:
        self._begun += 1
        self._unrecorded = None
        try:
            await self.tick()
            # Only now: while a publish is tried again, the reason why the last one failed still holds.
            self._problem = self._unrecorded
            self._failures = 0
            self._finished = self._begun
        except _Overtaken:
            log.info("a publish was still waiting for old requests when something else happened; publishing again")
        except TealError as error:
            self._failures += 1
            self._problem = error.message
            log.warning("not everything that is recorded is in force: %s", error.message)
        except Exception as error:
            # A fault of ours in one tick must not end the loop that would repair it; it is shown and tried again.
            self._failures += 1
            self._problem = f"{type(error).__name__}: {error}"
            log.exception("the tick failed")
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def _rest(self) -> None:
        """Until somebody rings. After a failure only a command shortens the pause: a worker that dies again and again
        must not make a refusing Envoy be asked again and again."""
        first, longest = RETRY_SECONDS
        bell, seconds = self._bell, TICK_SECONDS
        if self._failures:
            bell, seconds = self._ordered, min(first * 2 ** min(self._failures - 1, 10), longest)
        try:
            async with asyncio.timeout(seconds):
                await bell.wait()
        except TimeoutError:
            return

    async def _ring_on_fleet(self) -> None:
        seen = 0
        while True:
            seen = await self._fleet.changed(seen)
            self._bell.set()

    def _warming_seconds(self, deployment: Deployment) -> float:
        if deployment.state is not State.WARMING or deployment.candidate is None:
            return 0.0
        key = (deployment.model, deployment.candidate.version, deployment.since)
        return self._clock.monotonic() - self._warming_since.setdefault(key, self._clock.monotonic())

    def _forget_warmed(self, deployments: Sequence[Deployment]) -> None:
        warming = {
            (d.model, d.candidate.version, d.since) for d in deployments if d.state is State.WARMING and d.candidate
        }
        self._warming_since = {key: since for key, since in self._warming_since.items() if key in warming}

    def _still_running(self, workers: tuple[WorkerStatus, ...]) -> tuple[Placement, ...]:
        """Adopted workers as placements: the Envoy that lived on may still send them requests."""
        counted = Counter((w.model, w.version, w.color) for w in workers if w.state is not WorkerState.DRAINING)
        known = {(v.model, v.version): v for m in {w.model for w in workers} for v in self._store.versions(m)}
        return tuple(
            placement(model, Place(version, color, known[model, version].digest, replicas), self._package_of)
            for (model, version, color), replicas in counted.items()
            if (model, version) in known
        )
