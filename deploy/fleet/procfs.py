"""What Linux tells about processes in /proc: enough to recognise one of ours without trusting its pid."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.fleet.environment import MARK_FLEET, MARK_PROCESS

PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """One process for the whole life of the machine: pids are used again, the pair with the start time is not."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class ProcessStat:
    """`session` is the pid of the session's leader; `dead` is true for a zombie, which nobody reaped yet."""

    identity: Identity
    session: int
    dead: bool


@dataclass(frozen=True)
class Marked:
    """A living process that carries a fleet's mark. `process` is the incarnation it was started as."""

    identity: Identity
    process: str
    session: int


def process_stat(pid: int) -> ProcessStat | None:
    """What /proc/<pid>/stat says, or None when there is no such process."""
    try:
        raw = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = raw.rpartition(")")[2].split()
    return ProcessStat(Identity(pid, int(fields[19])), session=int(fields[3]), dead=fields[0] in "ZX")


def marks(pid: int) -> tuple[str, str] | None:
    """The fleet and process marks in a process's environment, or None when it has none or may not be read."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone in the meantime, or another user's
        return None
    pairs = dict(entry.partition(b"=")[::2] for entry in raw.split(b"\0"))
    fleet, process = pairs.get(MARK_FLEET.encode()), pairs.get(MARK_PROCESS.encode())
    return None if fleet is None or process is None else (fleet.decode(), process.decode())


def marked_processes(fleet: str) -> Iterator[Marked]:
    """Every living process of this fleet on the machine, however it came about."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        found = marks(int(entry.name))
        stat = process_stat(int(entry.name))
        if found is not None and found[0] == fleet and stat is not None and not stat.dead:
            yield Marked(stat.identity, found[1], stat.session)
