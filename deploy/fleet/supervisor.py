"""Keeps one process alive: start, ask how it is, start again after a death, drain when told to. The same story for a
worker and for Envoy; how each is started and asked is handed in.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from contracts.clock import Clock
from deploy.fleet.backoff import Death, GiveUp, History, RestartRules, after_death
from deploy.fleet.health import Answer, Health, HealthRules, observed, pause_after, verdict
from deploy.fleet.logfile import cap_log, last_words
from deploy.fleet.process import Exit, Process
from deploy.fleet.racing import first_of
from deploy.ports import WorkerState

log = logging.getLogger(__name__)

CAP_LOG_EVERY = 30.0  # seconds


class Probe(Protocol):
    """Asks the present incarnation how it is."""

    async def __call__(self) -> Answer: ...


@dataclass(frozen=True)
class Subject:
    """The process to keep alive, as the three things that can be done with it.

    name     for sentences: `worker digits/2 (blue, replica 0)`
    log      where its output goes
    launch   start a new incarnation; raises OSError when that is impossible
    probe    opens a probe of the present incarnation
    drain    runs before SIGTERM, for processes that are told to drain in another way; bounded by its own limits
    gone     called after an incarnation has ended, whatever the cause
    """

    name: str
    log: Path
    launch: Callable[[], Process]
    probe: Callable[[], AbstractAsyncContextManager[Probe]]
    drain: Callable[[], Awaitable[None]] | None = None
    gone: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Care:
    """How to keep it alive. `grace` is the time in seconds from SIGTERM to SIGKILL; `tell` is called after every
    change that `state`, `reason`, `pid` or `restarts` show."""

    clock: Clock
    random: Random
    tell: Callable[[], None]
    grace: float
    health: HealthRules = field(default_factory=HealthRules)
    restarts: RestartRules = field(default_factory=RestartRules)


class Supervisor:
    """One process from its first start until it was asked to leave. `run` is the one task that changes it."""

    def __init__(self, subject: Subject, care: Care) -> None:
        self._subject = subject
        self._care = care
        self._clock = care.clock
        self._process: Process | None = None
        self._born = self._clock.monotonic()
        self._health = Health()
        self._history = History()
        self._leaving = asyncio.Event()
        self._retry = asyncio.Event()
        self._settled = asyncio.Event()
        self.state = WorkerState.STARTING
        self.reason = "starting"
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def run(self, adopted: Process | None = None, age: float = 0.0) -> None:
        """Return once the process was asked to leave and has ended. Cancelling this lets go of the process and leaves
        it running. `age` is how many seconds ago an adopted process was started."""
        try:
            if adopted is not None:
                self._take(adopted, self._care.health.counted_age(age))
                self._show(WorkerState.STARTING, "found running; asking whether it is ready")
            while not self._leaving.is_set():
                death = await self._live_guarded()
                if death is None:
                    break
                await self._mourn(death)
            await self._end()
        finally:
            if self._process is not None:
                self._process.release()

    def leave(self) -> None:
        """Drain and end, whatever it is doing now."""
        if not self._leaving.is_set():
            self._leaving.set()
            self._show(WorkerState.DRAINING, "draining: finishes what it has")

    def retry(self) -> bool:
        """Give a broken process another chance; False, and nothing happens, when it is not broken."""
        broken = self.state is WorkerState.BROKEN
        if broken:
            self._retry.set()
        return broken

    async def settled(self) -> None:
        """Return once it is known whether the first incarnation answers."""
        await self._settled.wait()

    async def _live_guarded(self) -> Death | None:
        """As `_live`. A mistake of ours in watching this process counts as its death, so that it can neither stay
        unwatched nor take the watching of the others down."""
        try:
            return await self._live()
        except Exception as error:
            log.exception("%s: watching it failed", self._subject.name)
            if self._process is not None:
                await self._process.kill(self._clock)
            return self._death(None, f"{self._subject.name} was ended because watching it failed: {error!r}")

    async def _live(self) -> Death | None:
        """One incarnation, from its start to its death. None when it was asked to leave and still runs."""
        if self._process is None:
            self._health = Health()
            self._born = self._clock.monotonic()
            try:
                self._take(self._subject.launch(), 0.0)
            except OSError as error:
                return self._death(None, f"{self._subject.name} could not be started: {error}", ran=False)
            self._show(WorkerState.STARTING, "starting: loads and warms up")
        assert self._process is not None  # noqa: S101 - taken above
        return await self._watch(self._process)

    async def _watch(self, process: Process) -> Death | None:
        """Until it has ended, has to be replaced, or was asked to leave; whichever comes first."""
        ended, stuck, leaving = await first_of(process.wait(), self._ask_until_stuck(), self._leaving.wait())
        if not ended.cancelled():
            return self._death(ended.result().code, self._obituary(process, ended.result()))
        if not leaving.cancelled():
            return None
        why = stuck.result()
        log.warning("%s %s: killing it", self._subject.name, why)
        exited = await process.kill(self._clock)
        return self._death(exited.code if exited else None, f"{self._subject.name} {why} and was killed")

    async def _ask_until_stuck(self) -> str:
        """Ask for health for as long as the process makes progress; return why it has to be replaced."""
        rules = self._care.health
        capped = self._clock.monotonic()
        async with self._subject.probe() as probe:
            while True:
                asked = self._clock.monotonic()
                self._note(observed(self._health, await probe(), rules))
                now = self._clock.monotonic()
                why = verdict(self._health, now - self._born, rules)
                if why is not None:
                    return why
                if now - capped >= CAP_LOG_EVERY:
                    capped = now
                    self._cap_log()
                await self._clock.sleep(pause_after(self._health, now - asked, rules))

    def _note(self, health: Health) -> None:
        before, self._health = self._health, health
        if health.ready and not before.ready:
            self._show(WorkerState.READY, "ready")
        elif before.ready and not health.ready:
            why = f"no answer to {health.silent} health checks" if health.silent else "answers that it is not ready"
            self._show(WorkerState.STARTING, f"{why}; takes no traffic until it is ready again")
        if health.settled(self._care.health):
            self._settled.set()

    async def _mourn(self, death: Death) -> None:
        """After a death: wait for the next start, or for somebody to ask for one."""
        self._drop()
        self._settled.set()
        if self._leaving.is_set():
            return
        self._history, step = after_death(self._history, death, self._care.random.random(), self._care.restarts)
        if isinstance(step, GiveUp):
            log.error("%s; not started again by itself", step.reason)
            self._show(WorkerState.BROKEN, step.reason)
            await first_of(self._retry.wait(), self._leaving.wait())
            self._retry.clear()
            self._history = History()
        else:
            log.warning("%s", step.reason)
            self._show(WorkerState.WAITING, step.reason)
            await first_of(self._clock.sleep(step.wait), self._leaving.wait())
        self.restarts += 0 if self._leaving.is_set() else 1

    async def _end(self) -> None:
        if self._process is None:
            return
        if self._subject.drain is not None:
            # Raced, because a process that dies while draining has nothing left to drain.
            drained, _ = await first_of(self._subject.drain(), self._process.wait())
            if not drained.cancelled() and drained.exception() is not None:
                log.warning("%s could not be drained, ending it: %r", self._subject.name, drained.exception())
        exited = await self._process.stop(self._care.grace, self._clock)
        if exited is None:
            log.error("%s (pid %d) does not even end after SIGKILL", self._subject.name, self._process.pid)
            return
        log.info("%s %s after draining", self._subject.name, exited)
        self._drop()

    def _take(self, process: Process, age: float) -> None:
        self._process = process
        self._born = self._clock.monotonic() - age

    def _drop(self) -> None:
        if self._process is not None:
            self._process.release()
            self._process = None
        self._subject.gone()

    def _death(self, code: int | None, reason: str, *, ran: bool = True) -> Death:
        now = self._clock.monotonic()
        return Death(now, now - self._born, code, self._health.was_ready, reason, ran)

    def _obituary(self, process: Process, exited: Exit) -> str:
        words = last_words(self._subject.log, process.log_start)
        return f"{self._subject.name} {exited}" + (f": {words}" if words else "")

    def _cap_log(self) -> None:
        with contextlib.suppress(OSError):  # a log that cannot be cut is no reason to stop watching
            cap_log(self._subject.log)

    def _show(self, state: WorkerState, reason: str) -> None:
        self.state, self.reason = (WorkerState.DRAINING if self._leaving.is_set() else state), reason
        self._care.tell()
