"""After a restart of the control plane: what the ledger remembers against what runs. Pure: says which processes to
adopt, which records to forget and which processes nobody can account for.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from contracts.names import Color
from deploy.fleet.ledger import ProcessRecord
from deploy.fleet.procfs import Identity, Marked
from deploy.ports import Placement


@dataclass(frozen=True)
class Found:
    """`living`: records whose process runs, with its identity. `gone`: records of processes that do not. `orphans`:
    processes of this fleet that no record explains, such as one whose record could not be written."""

    living: tuple[tuple[ProcessRecord, Identity], ...]
    gone: tuple[ProcessRecord, ...]
    orphans: tuple[Marked, ...]


def sort_out(records: Iterable[ProcessRecord], marked: Collection[Marked]) -> Found:
    """Compare what was recorded with what carries the fleet's mark."""
    living, gone, explained = [], [], set()
    for record in records:
        identity = _process_of(record, marked)
        if identity is None:
            gone.append(record)
        else:
            living.append((record, identity))
            explained.add(incarnation(record))
    # A child of a process of ours inherits its mark, and is its own business for as long as that one lives.
    orphans = tuple(m for m in marked if m.process not in explained)
    return Found(tuple(living), tuple(gone), orphans)


def _process_of(record: ProcessRecord, marked: Collection[Marked]) -> Identity | None:
    mine = [m for m in marked if m.process == incarnation(record)]
    if record.pid is not None:
        return next((m.identity for m in mine if m.identity == Identity(record.pid, record.start_ticks or 0)), None)
    # The control plane died between recording the intent and recording the pid. Ours leads its own session.
    return next((m.identity for m in mine if m.session == m.identity.pid), None)


def worker_spec(incarnation: str, placement: Placement) -> str:
    """What a worker's record keeps in `spec`."""
    return json.dumps({"incarnation": incarnation, "placement": asdict(placement)})


def incarnation(record: ProcessRecord) -> str | None:
    """The mark the recorded process carries; None when the record was written by a Teal that kept it elsewhere."""
    spec = _spec(record)
    mark = spec.get("incarnation")
    return mark if isinstance(mark, str) else None


def placement(record: ProcessRecord) -> Placement | None:
    """What the recorded worker was started for; None when this Teal cannot read it."""
    try:
        fields = _spec(record)["placement"]
        return Placement(**{**fields, "color": Color(fields["color"])})
    except (KeyError, TypeError, ValueError):
        return None


def _spec(record: ProcessRecord) -> dict[str, Any]:
    try:
        spec = json.loads(record.spec)
    except ValueError:
        return {}
    return spec if isinstance(spec, dict) else {}
