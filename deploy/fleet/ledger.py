"""What the fleet remembers about its processes, so that the next control plane finds them instead of starting twins.

The store implements ProcessLedger with the `processes` table; tests/fakes/ledger.py keeps it in memory or in a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ProcessKind(StrEnum):
    WORKER = "worker"
    ENVOY = "envoy"


@dataclass(frozen=True)
class ProcessRecord:
    """One process that was started or is about to be.

    id            the worker's id, or "envoy"; a restarted worker keeps its id, so its record is replaced
    model ... replica   what it serves; empty, 0, "" and 0 for Envoy
    pid, start_ticks    None in both: recorded as an intent, not known to have been started yet. `start_ticks` is
                  field 22 of /proc/<pid>/stat: with it a recycled pid is never mistaken for ours
    socket        where it listens; "" for Envoy
    spec          JSON; only the fleet reads it
    started_at    wall-clock seconds since the epoch
    """

    id: str
    kind: ProcessKind
    model: str
    version: int
    color: str
    replica: int
    pid: int | None
    start_ticks: int | None
    socket: str
    spec: str
    started_at: float


class ProcessLedger(Protocol):
    """Durable: what returned is still there after kill -9 of the control plane. Calls are short and synchronous, made
    from the control plane's event loop. Any of them may raise when the disk does not let it write; the fleet then
    goes on serving and says so in the log."""

    def save_process(self, record: ProcessRecord) -> None:
        """Keep `record`, replacing the one with the same id."""

    def forget_process(self, process_id: str) -> None:
        """Drop the record with this id; nothing happens when there is none."""

    def processes(self) -> Sequence[ProcessRecord]:
        """Every record, ordered by id."""
