"""The operator's commands, from the words of the API to an acknowledged change: record, ring, wait for Envoy.

What a command may do is deploy.rollout.rules; this file finds the version meant and says who gave the command.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from contracts.clock import Clock
from contracts.errors import Conflict, TealError, Unavailable
from contracts.traffic import parse_percent
from deploy.foresight import Foresight
from deploy.pace import Glance
from deploy.ports import Fleet
from deploy.reconcile import Reconciler
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Command, Deploy, Drain, Extend, Order, Plain, Verb, Weight, observe
from deploy.rollout.moves import Decision
from deploy.rollout.plan import Plan, Strategy
from deploy.rollout.rules import WARMING_SECONDS, decide
from deploy.store.once import Once
from deploy.store.records import Version
from deploy.store.store import Store, unknown_version

# An API command waits this long for Envoy. Acknowledgements take milliseconds; what may take its time is that requests
# under way on a version that lost its traffic end, which the router waits for 35 s at most.
ACK_SECONDS = 50.0
WARM_SECONDS = WARMING_SECONDS + 30.0  # a deploy waits as long as warming may take

Meaning = Callable[[Deployment, tuple[Version, ...]], Command]
Fit = Callable[[str, str], tuple[str, ...]]  # of two versions, by their digests: the live one and the candidate
Told = Callable[[Verb, str], None]  # verb and how it ended, for telemetry


@dataclass(frozen=True)
class Operator:
    """Who gives a command, why, and which revision they looked at (None: they did not say). A command that was `said`
    before, with the same key, is not done again."""

    actor: str = "unknown"
    reason: str = ""
    expected_revision: int | None = None
    said: Once | None = None


@dataclass(frozen=True)
class Wanted:
    """What a deploy asks for; None leaves a choice to the rules. The flags are those of deploy.rollout.events.Deploy.
    `replicas` and `threads` are then as the live version has them, and for a model's first one as fits the machine."""

    version: int | None = None
    strategy: Strategy | None = None
    plan: Plan | None = None
    replicas: int | None = None
    threads: int | None = None
    retry: bool = False
    supersede: bool = False
    override: bool = False


@dataclass(frozen=True)
class Deployed:
    """What is deployed now, and what its operator should know of the way ahead."""

    deployment: Deployment
    warning: str | None = None


class Commands:
    """Every method returns the deployment once Envoy has acknowledged it.

    Raises Conflict and InvalidInput when the command does not fit, NotFound for an unknown model or version,
    Unavailable when it is recorded and not yet acknowledged, or when a deployed version did not become ready."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        reconciler: Reconciler,
        foresight: Foresight,
        clock: Clock,
        told: Told,
        ack_seconds: float = ACK_SECONDS,
        replicas_of: Callable[[Version], int] = lambda _version: 1,
        problems: Fit = lambda _live, _candidate: (),
        renamed: Fit = lambda _live, _candidate: (),
    ) -> None:
        """`replicas_of` says how many workers the first version of a model gets when nobody says, `problems` how a
        candidate's signature does not fit the live version's, and `renamed` what only some callers would notice."""
        self._store = store
        self._fleet = fleet
        self._reconciler = reconciler
        self._foresight = foresight
        self._clock = clock
        self._told = told
        self._ack_seconds = ack_seconds
        self._replicas_of = replicas_of
        self._problems = problems
        self._renamed = renamed

    async def deploy(self, model: str, wanted: Wanted, operator: Operator) -> Deployed:
        """Returns once the version is warm and routed. A plan that its operator wrote is refused when it is known that
        it cannot decide in time; a default one only warns, because it does no harm by waiting."""

        def meant(deployment: Deployment, versions: tuple[Version, ...]) -> Command:
            chosen = choose_version(deployment, versions, wanted.version)
            unsaid = wanted.replicas is None and not deployment.places()
            live = deployment.live
            return Deploy(
                chosen.version,
                chosen.digest,
                wanted.strategy,
                self._replicas_of(chosen) if unsaid else wanted.replicas,
                wanted.threads,
                wanted.plan,
                retry=wanted.retry,
                supersede=wanted.supersede,
                problems=() if live is None else self._problems(live.digest, chosen.digest),
                override=wanted.override,
            )

        with _Counted(self._told, Verb.DEPLOY):
            if wanted.plan is not None:
                await self._foresight.check(model, wanted.plan)
            glance = await self._foresight.glance(model)
            recorded = await self._record(model, meant, operator)
            after = await self._reconciler.applied(
                model, recorded.deployment.revision, WARM_SECONDS, lambda d: d.state is not State.WARMING
            )
            if recorded.version is not None and after.place_of(recorded.version) is None:
                # It failed, or another operator decided otherwise while it was warming.
                kind = Unavailable if after.state is State.FAILED else Conflict
                raise kind(f"model {model}: {after.reason}")
            return Deployed(after, await self._warning(after, glance))

    async def _warning(self, after: Deployment, glance: Glance | None) -> str | None:
        """What an operator should know of the candidate's way ahead."""
        said = await self._foresight.warning(after, glance)
        warnings = [] if said is None else [said]
        if after.live is not None and after.candidate is not None:
            warnings += await asyncio.to_thread(self._renamed, after.live.digest, after.candidate.digest)
        return "; ".join(warnings) or None

    async def weight(self, model: str, percent: str | float, operator: Operator, *, override: bool) -> Deployment:
        """`percent` is the candidate's share, 0 to 100 in steps of 0.01."""
        with _Counted(self._told, Verb.WEIGHT):
            units = parse_percent(percent)
            return await self._acknowledged(model, lambda _d, _v: Weight(units, override), operator)

    async def extend(self, model: str, seconds: float, operator: Operator) -> Deployment:
        with _Counted(self._told, Verb.EXTEND):
            return await self._acknowledged(model, lambda _d, _v: Extend(seconds), operator)

    async def drain(self, model: str, version: int | None, operator: Operator) -> Deployment:
        with _Counted(self._told, Verb.DRAIN):
            return await self._acknowledged(model, lambda d, v: Drain(_known(d, v, version)), operator)

    async def plain(self, model: str, verb: Verb, operator: Operator, *, override: bool = False) -> Deployment:
        """promote, skip, abort, rollback, undo, pause, resume."""
        with _Counted(self._told, verb):
            return await self._acknowledged(model, lambda _d, _v: Plain(verb, override), operator)

    async def _acknowledged(self, model: str, meant: Meaning, operator: Operator) -> Deployment:
        decision = await self._record(model, meant, operator)
        after = await self._reconciler.applied(model, decision.deployment.revision, self._ack_seconds)
        _check_kept(decision, after)
        return after if operator.said is None or decision.action is not None else decision.deployment

    async def _record(self, model: str, meant: Meaning, operator: Operator) -> Decision:
        workers, now = self._fleet.workers(), self._clock.wall()

        def rule(deployment: Deployment, versions: tuple[Version, ...]) -> Decision:
            order = Order(
                meant(deployment, versions), observe(deployment, workers), operator.reason, operator.expected_revision
            )
            return decide(deployment, order, now)

        decision = await asyncio.to_thread(self._change, model, rule, operator, now)
        self._reconciler.ring()
        return decision

    def _change(
        self, model: str, rule: Callable[[Deployment, tuple[Version, ...]], Decision], operator: Operator, now: float
    ) -> Decision:
        if not self._store.versions(model):
            self._store.version(model, 1)  # raises NotFound, naming what is registered
        return self._store.change(model, rule, actor=operator.actor, at=now, said=operator.said)


def choose_version(deployment: Deployment, versions: tuple[Version, ...], wanted: int | None) -> Version:
    """The version meant: the one named, else the newest that is not live. Raises NotFound, or Conflict when everything
    registered is live already."""
    if wanted is not None:
        found = next((v for v in versions if v.version == wanted), None)
        if found is None:
            raise unknown_version(deployment.model, wanted, versions)
        return found
    live = None if deployment.live is None else deployment.live.version
    newest = next((v for v in reversed(versions) if v.version != live), None)
    if newest is None:
        raise Conflict(
            f"model {deployment.model}: version {live} is live and the only one registered; "
            f"register another with: teal register {deployment.model} SOURCE"
        )
    return newest


def _known(deployment: Deployment, versions: tuple[Version, ...], version: int | None) -> int | None:
    if version is not None and all(v.version != version for v in versions):
        raise unknown_version(deployment.model, version, versions)
    return version


def _check_kept(decision: Decision, after: Deployment) -> None:
    """Who promotes and is overruled before it is in force must hear of it: somebody else's abort always wins."""
    live = None if after.live is None else after.live.version
    if decision.action == Verb.PROMOTE and live != decision.version:
        raise Conflict(
            f"model {after.model}: version {decision.version} was promoted, which somebody overruled before it was in "
            f"force; it is at revision {after.revision} now: {after.reason}"
        )


class _Counted:
    """Tell telemetry how a command ended: ok, conflict, invalid_input, unavailable, … (codes of contracts.errors)."""

    def __init__(self, told: Told, verb: Verb) -> None:
        self._told = told
        self._verb = verb

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._told(self._verb, "ok")
        else:
            self._told(self._verb, error.code if isinstance(error, TealError) else "internal")
