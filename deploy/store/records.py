"""What the store keeps, as values: versions and events. No SQL here.

Processes are deploy.fleet.ledger's, whose ProcessLedger the store implements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Version:
    """One registered version, or with number 0 one that has none yet. `registered_at` is wall time in seconds;
    `lineage` is contracts.package.Lineage as JSON; `seconds_per_row` is the best measured cost of a row with the chosen
    plan, None when nothing was timed."""

    model: str
    version: int
    digest: str
    plan: str
    source: str
    registered_at: float
    seconds_per_row: float | None
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One line of the history; `seq` and the hashes are set when it is recorded.

    before, after    the deployment as JSON where there was one
    evidence         what a change of a deployment was decided from; see docs/audit.md
    """

    seq: int
    at: float
    actor: str
    action: str
    model: str
    version: int | None
    reason: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    previous_hash: str = ""
    hash: str = ""
