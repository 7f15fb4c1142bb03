"""How much memory a set of processes takes: proportional set size, in which a shared page counts once in all."""

from collections.abc import Iterable
from pathlib import Path


def megabytes(pids: Iterable[int]) -> float:
    """PSS of these processes together, in MB. One that has ended meanwhile takes nothing."""
    return sum(map(_kilobytes, pids)) / 1e3


def _kilobytes(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return parse(text) * 1.024


def parse(rollup: str) -> int:
    """The Pss line of a smaps_rollup, in KiB; 0 when there is none, as for a process that is just ending."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
