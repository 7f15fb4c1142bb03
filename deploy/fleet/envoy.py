"""The one Envoy of a machine as a supervised process: adopted when it is the right one, replaced when it is not,
started again whenever it dies. What Envoy is told, and how it is asked, is the router's and handed in.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from contracts.clock import Clock, SystemClock
from deploy.fleet.adoption import incarnation, sort_out
from deploy.fleet.backoff import RestartRules
from deploy.fleet.bell import Bell
from deploy.fleet.environment import child_environment
from deploy.fleet.health import Answer, HealthRules
from deploy.fleet.ledger import ProcessKind, ProcessLedger, ProcessRecord
from deploy.fleet.process import Command, Process, attach, check_platform
from deploy.fleet.processes import fleet_token
from deploy.fleet.procfs import marked_processes
from deploy.fleet.racing import first_of
from deploy.fleet.recording import forget_recorded, spawn_recorded
from deploy.fleet.supervisor import Care, Probe, Subject, Supervisor
from deploy.ports import WorkerState

log = logging.getLogger(__name__)

ENVOY_ID = "envoy"

# Every prediction goes through Envoy, so it is tried again soon and, once it has worked, for ever. An Envoy that
# never worked, for one because its port is taken, is given up with its own last words. It is not ready before it has
# been told its routes, for which it may wait as long as it likes.
RESTARTS = RestartRules(longest_wait=2.0, deaths=3, patient=True, hopeless=frozenset())
HEALTH = HealthRules(start_seconds=math.inf)


@dataclass(frozen=True)
class EnvoySpec:
    """Which Envoy should run.

    argv     its command line                   digest   equal exactly when a running Envoy need not be replaced
    write    writes the bootstrap that argv names; called before each start, may raise OSError
    ready    whether it answers that it is ready; False when it says no or nobody listens
    drain    tells callers to leave and returns when they have, within a bound of its own; may raise
    """

    argv: tuple[str, ...]
    digest: str
    write: Callable[[], None]
    ready: Callable[[], Awaitable[bool]]
    drain: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class EnvoyStatus:
    """Envoy as the control plane knows it. `reason` is a sentence for people."""

    state: WorkerState
    pid: int | None
    restarts: int
    reason: str


class EnvoyProcess:
    """Keeps one Envoy alive. Belongs to one event loop. Call `start` once, `close` at the end."""

    def __init__(
        self,
        spec: EnvoySpec,
        *,
        home: Path,
        logs: Path,
        ledger: ProcessLedger,
        clock: Clock | None = None,
        random: Random | None = None,
        grace: float = 10.0,
        health: HealthRules = HEALTH,
        restarts: RestartRules = RESTARTS,
    ) -> None:
        """`grace` is the time in seconds from SIGTERM to SIGKILL, after the drain."""
        check_platform()
        self._spec = spec
        self._token = fleet_token(home)
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._grace = grace
        self._health = health
        self._bell = Bell()
        self._task: asyncio.Task[None] | None = None
        self._log = logs.absolute() / "envoy.log"
        subject = Subject(
            name="envoy",
            log=self._log,
            launch=self._launch,
            probe=self._probe,
            drain=spec.drain,
            gone=lambda: forget_recorded(self._ledger, ENVOY_ID),
        )
        care = Care(
            clock=self._clock,
            random=random or Random(),  # noqa: S311 - jitter is not a secret
            tell=self._bell.ring,
            grace=grace,
            health=health,
            restarts=restarts,
        )
        self._supervisor = Supervisor(subject, care)

    async def start(self) -> None:
        """Adopt the Envoy a former control plane left running, if it was started with the same digest; otherwise end
        that one and start ours. Returns once it is under way; see `status`, `changed` and `given_up`."""
        adopted, age = await self._adopt_or_end()
        self._task = asyncio.create_task(self._supervisor.run(adopted, age), name=ENVOY_ID)
        if adopted is not None:
            await self._supervisor.settled()

    @property
    def status(self) -> EnvoyStatus:
        supervisor = self._supervisor
        return EnvoyStatus(supervisor.state, supervisor.pid, supervisor.restarts, supervisor.reason)

    async def changed(self, seen: int) -> int:
        """Return the change counter as soon as it is greater than `seen`."""
        return await self._bell.after(seen)

    async def given_up(self) -> str:
        """Return the reason once Envoy is given up, which only happens before it was ready for the first time. For
        the start of the gateway: wait for this and for the first routes, whichever comes first."""
        seen = -1
        while self._supervisor.state is not WorkerState.BROKEN:
            seen = await self._bell.after(seen)
        return self._supervisor.reason

    def retry(self) -> bool:
        """Try an Envoy that was given up again; False when it was not."""
        return self._supervisor.retry()

    async def close(self, *, drain: bool) -> None:
        """`drain=True`: drain and end it. `drain=False`: let go of it, so that traffic flows on."""
        if self._task is None:
            return
        if drain:
            self._supervisor.leave()
        else:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _adopt_or_end(self) -> tuple[Process | None, float]:
        """The Envoy to adopt and its age in seconds; whatever else of ours runs as Envoy has ended by then."""
        records = [r for r in self._ledger.processes() if r.kind is ProcessKind.ENVOY]
        for record, identity in sort_out(records, list(marked_processes(self._token))).living:
            process = attach(identity, incarnation(record) or "")
            if process is None:
                continue
            if envoy_digest(record) == self._spec.digest:
                log.info("envoy: found running as pid %d, adopted", process.pid)
                self._ledger.save_process(replace(record, pid=identity.pid, start_ticks=identity.start_ticks))
                return process, max(self._clock.wall() - record.started_at, 0.0)
            log.info("envoy: pid %d runs with other settings, replacing it", process.pid)
            await self._end(process)
        for record in records:
            self._ledger.forget_process(record.id)
        return None, 0.0

    async def _end(self, process: Process) -> None:
        drained, _ = await first_of(self._spec.drain(), process.wait())
        if not drained.cancelled() and drained.exception() is not None:
            log.warning("envoy: could not be drained, ending it: %r", drained.exception())
        await process.stop(self._grace, self._clock)
        process.release()

    def _launch(self) -> Process:
        self._spec.write()
        mark = f"{ENVOY_ID}@{secrets.token_hex(4)}"
        intent = ProcessRecord(
            id=ENVOY_ID,
            kind=ProcessKind.ENVOY,
            model="",
            version=0,
            color="",
            replica=0,
            pid=None,
            start_ticks=None,
            socket="",
            spec=json.dumps({"incarnation": mark, "digest": self._spec.digest}),
            started_at=self._clock.wall(),
        )
        env = child_environment(os.environ, fleet=self._token, process=mark)
        return spawn_recorded(self._ledger, intent, Command(self._spec.argv, env, self._log))

    @asynccontextmanager
    async def _probe(self) -> AsyncIterator[Probe]:
        yield self._ask

    async def _ask(self) -> Answer:
        """An Envoy that hangs takes the connection and never answers; only that counts as silence."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._health.answer_seconds):
                return Answer.READY if await self._spec.ready() else Answer.NOT_READY
        return Answer.SILENT


def envoy_digest(record: ProcessRecord) -> str:
    """The digest a recorded Envoy was started with; "" when the record does not say."""
    try:
        return str(json.loads(record.spec)["digest"])
    except (ValueError, KeyError, TypeError):
        return ""
