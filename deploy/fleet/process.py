"""One child process: started in a session of its own so that it outlives us, watched through a pidfd so that its end
is noticed at once, and never mistaken for another one that was given the same pid. Linux only.

Decides nothing: who restarts what and when is in backoff.py and supervisor.py.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from contracts.clock import Clock
from contracts.errors import Unsupported
from deploy.fleet.logfile import open_log, size
from deploy.fleet.procfs import Identity, marks, process_stat
from deploy.fleet.racing import first_of

log = logging.getLogger(__name__)

KILLED_WITHIN = 10.0  # seconds; only a process stuck inside the kernel takes longer to die of SIGKILL


@dataclass(frozen=True)
class Command:
    """What to run. stdout and stderr are appended to `log`. `oom_score` > 0 tells the kernel to take this process
    rather than others when memory runs out."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    oom_score: int = 0


@dataclass(frozen=True)
class Exit:
    """How a process ended: its exit code, minus the signal's number, or None when it was not our child."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None:
            return "died (with an exit code that only its former control plane could have read)"
        if self.code >= 0:
            return f"exited with code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"


class Process:
    """A process that was running when this was made. Belongs to the event loop it was made on."""

    def __init__(self, identity: Identity, pidfd: int, log_start: int) -> None:
        self.identity = identity
        self.log_start = log_start  # byte of the log file where this incarnation's words begin
        self._pidfd: int | None = pidfd
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._reap)

    @property
    def pid(self) -> int:
        return self.identity.pid

    async def wait(self) -> Exit:
        """Return once the process has ended. May be called by many and cancelled by any."""
        return await asyncio.shield(self._exit)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; nothing happens when it has ended."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, grace: float, clock: Clock) -> Exit | None:
        """SIGTERM, then SIGKILL after `grace` seconds. None when even that did not end it: it hangs in the kernel."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process hears SIGTERM only once it goes on
        exited = await ended_within(self, grace, clock)
        return exited if exited is not None else await self.kill(clock)

    async def kill(self, clock: Clock) -> Exit | None:
        """SIGKILL. None as above."""
        self.signal(signal.SIGKILL)
        return await ended_within(self, KILLED_WITHIN, clock)

    def release(self) -> None:
        """Let go of the process without touching it."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._exit.cancel()

    def _reap(self) -> None:
        assert self._pidfd is not None  # noqa: S101 - the reader is removed before the descriptor is closed
        exited = reap(self._pidfd)
        if exited is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        self._exit.set_result(exited)


def reap(pidfd: int) -> Exit | None:
    """How the process ended, leaving no zombie if it was our child; None when it has not ended."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Exit(None)
    if status is None:
        return None
    return Exit(status.si_status if status.si_code == os.CLD_EXITED else -status.si_status)


async def ended_within(process: Process, seconds: float, clock: Clock) -> Exit | None:
    """The process's end, or None when it has not come after `seconds`."""
    ended, _ = await first_of(process.wait(), clock.sleep(seconds))
    return None if ended.cancelled() else ended.result()


def check_platform() -> None:
    """Raise Unsupported where processes cannot be watched by pidfd."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        raise Unsupported(
            f"the fleet of local processes needs Linux 5.3 or later with pidfd_open and /proc; this is {sys.platform} "
            f"and says: {error}. Run Teal in a Linux machine or container."
        ) from error


def spawn(command: Command) -> Process:
    """Start `command` and return once the program is running in place of our copy. Raises OSError when it cannot be
    started."""
    with _output(command.log) as output:
        log_start = size(command.log)
        child = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(command.env),
            cwd="/",
            start_new_session=True,
            close_fds=True,
        )
    try:
        # Not reaped yet, so the pid cannot have been given to anybody else, even if the program has ended already.
        pidfd = os.pidfd_open(child.pid)
    except OSError:  # no descriptors left: a process that nobody can watch must not stay
        child.kill()
        child.wait()
        raise
    # From here the pidfd watches and reaps. Popen would otherwise warn about, and later reap, what it no longer owns.
    child.returncode = 0
    stat = process_stat(child.pid)
    if stat is None:
        raise OSError(f"process {child.pid} was started and is not in /proc; is /proc mounted?")
    if command.oom_score > 0:
        # A preference, not a promise: the process may have ended, or the file may be read-only in a container.
        with contextlib.suppress(OSError):
            Path(f"/proc/{child.pid}/oom_score_adj").write_text(str(command.oom_score))
    return Process(stat.identity, pidfd, log_start)


def _output(path: Path) -> BinaryIO:
    """The log to write to; nothing at all on a disk that takes none: serving without a log beats not serving."""
    try:
        return open_log(path)
    except OSError as error:
        log.warning("%s cannot be written, starting without a log: %s", path, error)
        return Path(os.devnull).open("ab")


def attach(identity: Identity, mark: str, log_start: int = 0) -> Process | None:
    """The living process with this identity that carries `mark` as its incarnation; None when it has ended or the
    pid belongs to somebody else now."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # the number belongs to a thread of some process now
            return None
        raise
    # Opened first, compared second: whatever /proc says now is about the process the descriptor stands for.
    stat = process_stat(identity.pid)
    found = marks(identity.pid)
    if stat is None or stat.identity != identity or stat.dead or found is None or found[1] != mark:
        if stat is not None and stat.dead:
            reap(pidfd)  # leaves no zombie if it was our own child; says nothing when it was not
        os.close(pidfd)
        return None
    return Process(identity, pidfd, log_start)
