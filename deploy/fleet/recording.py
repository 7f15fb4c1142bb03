"""Spawns a process so that a crash of the control plane at any moment leaves a trace of it: intent, process, pid."""

import logging
from dataclasses import replace

from deploy.fleet.ledger import ProcessLedger, ProcessRecord
from deploy.fleet.process import Command, Process, spawn

log = logging.getLogger(__name__)


def spawn_recorded(ledger: ProcessLedger, intent: ProcessRecord, command: Command) -> Process:
    """Record `intent` (its pid is None), spawn, record the process. A crash in between leaves a record without a pid,
    and the mark in the process's environment by which the next control plane finds it. Raises OSError when the
    process cannot be started."""
    _save(ledger, intent)
    process = spawn(command)
    _save(ledger, replace(intent, pid=process.pid, start_ticks=process.identity.start_ticks))
    return process


def forget_recorded(ledger: ProcessLedger, process_id: str) -> None:
    """Drop the record of a process that has ended."""
    try:
        ledger.forget_process(process_id)
    except Exception:
        log.exception("%s: could not be forgotten; the next start will see that it has ended", process_id)


def _save(ledger: ProcessLedger, record: ProcessRecord) -> None:
    try:
        ledger.save_process(record)
    except Exception:
        # Whatever keeps the ledger from writing, a full disk for one, must not keep a process from serving: its mark
        # is enough for the next control plane to find it and to put a recorded one in its place.
        log.exception("%s: could not be recorded; starting it all the same", record.id)
