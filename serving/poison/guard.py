"""Keeps inputs that may end the process away from the serving engine, and finds out alone which of them really do.

A request is a suspect when it was inside a process that died: the dead one's journal names it. Suspects run in a
scratch process, one at a time. Who survives is answered and free; who ends that process, too, is convicted: refused by
every worker of the version for QUARANTINE_SECONDS. The batcher asks; who sent a request, nobody here knows.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from contracts.clock import Clock
from contracts.errors import DeadlineExceeded, Internal, Overloaded, Quarantined, TealError, Unavailable
from contracts.limits import LIMITS
from serving.engine.base import Array, Tensors
from serving.engine.scratch import ProcessDied, ScratchUnavailable
from serving.poison.journal import Journal, abandoned, read_marks
from serving.poison.marks import fingerprint
from serving.poison.records import Records

POLL_SECONDS = 1.0

_TRIAL_SECONDS = 5.0  # what a trial may take at least, whatever its caller's deadline: a verdict saves others
_IDLE_SECONDS = 60.0  # a scratch process that nobody needed for this long is ended: it holds the model a second time

Outputs = dict[str, Array]
_log = logging.getLogger(__name__)


class Scratch(Protocol):
    """Runs one input where it can do no harm; see serving.engine.scratch.ScratchEngine."""

    @property
    def running(self) -> bool: ...

    def run(self, signature: str, inputs: Tensors, seconds: float) -> Outputs: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Suspect:
    signature: str
    inputs: Tensors
    mark: int
    fingerprint: str


class Guard:
    """One worker's guard. `start` before the first request, `close` after the last; `scratch` is touched only by
    `executor`, which is one thread. `journal` None is a worker without a folder to share: there, every request that
    was tried elsewhere before is a suspect."""

    def __init__(
        self, *, scratch: Scratch, executor: Executor, journal: Journal | None, records: Records, clock: Clock
    ) -> None:
        self._scratch = scratch
        self._executor = executor
        self._journal = journal
        self._records = records
        self._clock = clock
        self._turn = asyncio.Lock()
        self._trials: set[asyncio.Task[None]] = set()
        self._last_trial = clock.monotonic()
        self._patrol: asyncio.Task[None] | None = None
        # The journal's own methods, not wrapped: they are called around each run.
        self.begin: Callable[[list[int]], None] = journal.begin if journal is not None else _ignore
        self.end: Callable[[], None] = journal.end if journal is not None else _ignore
        self.watching = False  # whether there is anybody to look out for; asked for each request
        self.look()

    def start(self) -> None:
        self._patrol = asyncio.get_running_loop().create_task(self._walk(), name="guard")

    async def close(self, *, peaceful: bool = True) -> None:
        """End all trials with Unavailable, and the scratch process. Not `peaceful`, the journal goes on naming the run
        that this process leaves behind."""
        tasks = [*self._trials, *([self._patrol] if self._patrol is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._scratch.close()  # from outside its thread on purpose: a run in there ends with its process
        if self._journal is not None:
            self._journal.close(peaceful=peaceful)

    def look(self) -> None:
        """Learn what siblings wrote, and read the journals of those that died."""
        now = self._clock.wall()
        if self._journal is not None:
            for dead in abandoned(self._journal.others()):
                marks = read_marks(dead)
                if marks:
                    _log.warning("a worker died during a run of %d requests; each will be tried alone", len(marks))
                self._records.suspect(marks, now)  # before the journal goes, or a sibling could miss both
                dead.unlink(missing_ok=True)
        self._records.refresh(now)
        self.watching = bool(self._records.known)

    def suspects(self, mark: int) -> bool:
        """Whether requests with this mark have to be examined."""
        known = self._records.known
        return mark in known.suspects or mark in known.convicted_marks

    def suspects_retried(self, mark: int) -> bool:
        """The same of a request that was tried on another worker before, which may have died a moment ago."""
        if self._journal is None:
            return True
        # Whether they live or not: the kernel closes a dying process's connections and locks in no promised order.
        if any(mark in read_marks(path) for path in self._journal.others()):
            self._records.suspect([mark], self._clock.wall())
        self.look()
        return self.suspects(mark)

    def examine(self, signature: str, inputs: Tensors, mark: int, deadline: float) -> "asyncio.Future[Outputs]":
        """The outputs of a suspect, computed alone; cancel it when the caller leaves. Raises Quarantined for a convict
        and Overloaded at once; the future also raises DeadlineExceeded, Internal and Unavailable."""
        name = fingerprint(signature, inputs)
        self._refuse_convict(name)
        if len(self._trials) >= LIMITS.trials:
            raise Overloaded(f"{LIMITS.trials} requests wait to be tried alone, after the process that had them died")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        expiry = loop.create_task(self._expire(answer, deadline), name="trial-deadline")
        answer.add_done_callback(lambda _: expiry.cancel())
        suspect = _Suspect(signature, inputs, mark, name)
        trial = loop.create_task(self._try(suspect, deadline, answer), name="trial")
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)
        return answer

    async def _expire(self, answer: "asyncio.Future[Outputs]", deadline: float) -> None:
        await self._clock.sleep(max(0.0, deadline - self._clock.monotonic()))
        _fail(answer, DeadlineExceeded("the request's time was over before it was computed"))

    async def _try(self, suspect: "_Suspect", deadline: float, answer: "asyncio.Future[Outputs]") -> None:
        """Wait for the turn, compute, answer. A run that has begun is seen to its end even when nobody waits for the
        answer any more: the verdict matters to others."""
        try:
            async with self._turn:
                if answer.done():
                    return
                self._refuse_convict(suspect.fingerprint)  # somebody with the same input may have been before us
                left = deadline - self._clock.monotonic()
                outputs = await self._judge(suspect, max(left, _TRIAL_SECONDS))
        except TealError as error:
            _fail(answer, error)
        except asyncio.CancelledError:
            _fail(answer, Unavailable("this worker is stopping; send the request again"))
            raise
        else:
            if not answer.done():
                answer.set_result(outputs)

    async def _judge(self, suspect: "_Suspect", seconds: float) -> Outputs:
        """Compute alone, and say what that makes of the suspect."""
        try:
            try:
                outputs = await self._run(suspect, seconds)
            except ProcessDied as death:
                if death.signal != signal.SIGKILL:
                    raise
                # That one comes from outside: from a person, or from a kernel short of memory. Once is chance.
                outputs = await self._run(suspect, seconds)
        except ProcessDied as death:
            raise self._convict(suspect, death) from None
        except TimeoutError:  # neither: it stays a suspect
            raise DeadlineExceeded("the request's time was over before it was computed") from None
        except ScratchUnavailable as error:
            _log.error("a suspect cannot be tried: %s", error)
            raise Unavailable("this request has to be tried alone, which is not possible now") from None
        except (RuntimeError, ValueError) as error:
            _log.error("signature %s failed: %s", suspect.signature, error)
            self._acquit(suspect.mark)
            raise Internal("the model failed on this input") from None
        self._acquit(suspect.mark)
        return outputs

    async def _run(self, suspect: "_Suspect", seconds: float) -> Outputs:
        """A run in the scratch process."""
        loop = asyncio.get_running_loop()
        try:
            call = partial(self._scratch.run, suspect.signature, suspect.inputs, seconds)
            return await loop.run_in_executor(self._executor, call)
        finally:
            self._last_trial = self._clock.monotonic()

    def _refuse_convict(self, name: str) -> None:
        until = self._records.known.convicted.get(name)
        if until is not None and until > self._clock.wall():
            raise _refusal(until)

    def _convict(self, suspect: "_Suspect", death: ProcessDied) -> Quarantined:
        until = self._records.convict(suspect.mark, suspect.fingerprint, self._clock.wall())
        self.watching = True
        _log.error(
            "an input ended the process that computed it alone: %s; sha256 %s is refused", death, suspect.fingerprint
        )
        return _refusal(until)

    def _acquit(self, mark: int) -> None:
        self._records.acquit(mark, self._clock.wall())
        self.watching = bool(self._records.known)

    async def _walk(self) -> None:
        """Look around every now and then, and let an idle scratch process go."""
        while True:
            await self._clock.sleep(POLL_SECONDS)
            self.look()
            idle = self._clock.monotonic() - self._last_trial
            if self._scratch.running and not self._trials and idle >= _IDLE_SECONDS:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._scratch.close)


def _ignore(marks: Sequence[int] = ()) -> None:
    """There is no journal to write."""


def _refusal(until: float) -> Quarantined:
    when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Quarantined(
        f"this input made the model's process die; it is refused until {when}: send another input, and tell those who "
        "run the model"
    )


def _fail(answer: "asyncio.Future[Outputs]", error: TealError) -> None:
    if not answer.done():
        answer.set_exception(error)
