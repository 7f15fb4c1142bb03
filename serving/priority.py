"""Loading at low priority: a version that warms beside one that serves takes the cores that serving leaves over, and
then competes like any other. Knows Linux; who has to be gentle is the control plane's decision.
"""

import contextlib
import logging
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

_LOWEST = 19
_CAP_SYS_NICE = 23
_TRIES, _PAUSE_SECONDS = 100, 0.05
_SELF = Path("/proc/self")
# Where Linux weighs sessions against each other first (sched(7), autogroup), nice orders only the threads of one
# session among themselves. Unlike a thread's nice, anybody may put a session's back to 0.
_SESSION = _SELF / "autogroup"


@dataclass(frozen=True)
class Usual:
    """What to come back to: the nice value of the threads and of the session; None where it was left alone."""

    threads: int | None = None
    session: int | None = None


def may_come_back(capabilities: int, limit: int, nice: int) -> bool:
    """Whether a process may return to `nice` from a lower priority. `capabilities` are the effective ones as bits:
    root in a container often lacks the one that counts. `limit` is RLIMIT_NICE, which counts the other way round."""
    return bool(capabilities >> _CAP_SYS_NICE & 1) or limit == resource.RLIM_INFINITY or 20 - limit <= nice


def lower() -> Usual:
    """Give this thread, all that it will start, and the session when it is ours, the lowest priority, as far as that
    can be undone. Call while there is one thread."""
    usual = Usual(session=_lower_session(), threads=_lower_threads())
    if usual.threads is None:
        _log.info("may not raise its priority again (no CAP_SYS_NICE, RLIMIT_NICE too small): its threads keep theirs")
    return usual


def come_back(usual: Usual) -> None:
    """Undo `lower` for every thread there is by now. May take a moment."""
    if usual.session is not None:
        _return_session(usual.session)
    if usual.threads is None:
        return
    # A thread that is still low may start another meanwhile, so until nobody is.
    while low := [tid for tid in _threads() if _nice(tid) > usual.threads]:
        for tid in low:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, tid, usual.threads)


def _return_session(nice: int) -> None:
    for _ in range(_TRIES):
        try:
            _SESSION.write_text(str(nice))
        except BlockingIOError:  # the kernel lets the unprivileged of a machine do this ten times a second
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    _log.warning("the session of this worker stays at low priority: the kernel was asked %d times", _TRIES)


def _lower_threads() -> int | None:
    now = os.getpriority(os.PRIO_PROCESS, 0)
    if not may_come_back(_capabilities(), resource.getrlimit(resource.RLIMIT_NICE)[0], now):
        return None
    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST)
    return now


def _lower_session() -> int | None:
    if os.getsid(0) != os.getpid():  # a terminal's, and everybody's in it
        return None
    try:
        now = int(_SESSION.read_text().rpartition("nice")[2])
        if now < 0:  # only the privileged could come back
            return None
        _SESSION.write_text(str(_LOWEST))
    except (OSError, ValueError):  # not grouped by session, or /proc is read-only
        return None
    return now


def _threads() -> list[int]:
    return [int(entry.name) for entry in (_SELF / "task").iterdir()]


def _nice(tid: int) -> int:
    try:
        return os.getpriority(os.PRIO_PROCESS, tid)
    except ProcessLookupError:
        return -20


def _capabilities() -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
