"""What this machine offers a process: the control plane and the worker must count cores the same way."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Cores this process may use: a container's quota or taskset's share, not the machine's."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, quota(_QUOTA) or allowed))


def quota(path: Path) -> int | None:
    """Whole cores that cgroup v2's `cpu.max` at `path` grants, rounded up; None when it limits nothing. A container
    sees its own group there, which is the only place where such a limit is common."""
    try:
        granted, period = path.read_text().split()
        return None if granted == "max" else math.ceil(int(granted) / int(period))
    except (OSError, ValueError):
        return None
