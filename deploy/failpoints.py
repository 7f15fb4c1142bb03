"""Named places where a test may kill this process or fill its disk, to prove that nothing is lost there.

Armed by TEAL_FAILPOINT=name:kill or name:full in the environment; costs one comparison otherwise.
"""

import errno
import os
import signal

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
    "evidence.before_commit",
    "evidence.committed",
    "command.committed",
)


def reach(name: str) -> None:
    """Say that execution is at the place `name`, one of FAILPOINTS."""
    if name not in FAILPOINTS:
        raise ValueError(f"failpoint {name!r} is not in FAILPOINTS")
    armed = os.environ.get("TEAL_FAILPOINT")
    if armed == f"{name}:kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed == f"{name}:full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
