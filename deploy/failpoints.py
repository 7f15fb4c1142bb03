"""Named places where a test may kill this process or fill its disk, to prove that nothing is lost there.

Armed by TEAL_FAILPOINT=name:kill or name:full in the environment, or by `armed` in the process of a test; costs a
comparison otherwise.
"""

import errno
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

STEPS = ("start", "advance", "cutover", "promote", "rollback")
"""Automatic moves with failpoints of their own; all others are `move`, and what is only seen is `evidence`."""

FAILPOINTS = (
    "register.staging_made",
    "register.fetched",
    "register.prepared",
    "register.verified",
    "register.synced",
    "register.renamed",
    "register.before_commit",
    "register.committed",
    "delete.committed",
    "command.before_commit",
    "command.committed",
    *(f"{step}.{moment}" for step in (*STEPS, "move", "evidence") for moment in ("before_commit", "committed")),
    "lease.before_commit",
    "lease.committed",
    "publish.before",
    "publish.acknowledged",
)


class Killed(BaseException):
    """This process is to be taken for dead. Nothing may catch it, as nothing catches a kill."""


_armed: dict[str, int] = {}


@contextmanager
def armed(name: str, passes: int = 0) -> Iterator[None]:
    """When execution has been at `name` as often as it `passes`, Killed is raised there, once."""
    _check(name)
    _armed[name] = passes
    try:
        yield
    finally:
        _armed.pop(name, None)


def reach(name: str) -> None:
    """Say that execution is at the place `name`, one of FAILPOINTS."""
    _check(name)
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] < 0:
            del _armed[name]
            raise Killed(name)
    told = os.environ.get("TEAL_FAILPOINT")
    if told == f"{name}:kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if told == f"{name}:full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def reach_all(steps: Collection[str], moment: str) -> None:
    """One transaction holds the steps of many rollouts."""
    for step in sorted(steps):
        reach(f"{step}.{moment}")


def step_names(actions: Iterable[str | None]) -> set[str]:
    """What automatic moves are called here."""
    return {"evidence" if action is None else action if action in STEPS else "move" for action in actions}


def _check(name: str) -> None:
    if name not in FAILPOINTS:
        raise ValueError(f"failpoint {name!r} is not in FAILPOINTS")
