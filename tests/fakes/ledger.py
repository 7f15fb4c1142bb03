"""A process ledger in memory, or in a JSON file when it has to outlive its object."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.fleet.ledger import ProcessKind, ProcessRecord


class FakeLedger:
    """Honest ProcessLedger. With `path` every call reads and writes that file. `broken` makes writes fail as on a
    full disk."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._records: dict[str, ProcessRecord] = {}
        self.broken = False

    def save_process(self, record: ProcessRecord) -> None:
        self._check()
        self._write({**self._read(), record.id: record})

    def forget_process(self, process_id: str) -> None:
        self._check()
        self._write({key: value for key, value in self._read().items() if key != process_id})

    def processes(self) -> Sequence[ProcessRecord]:
        records = self._read()
        return [records[key] for key in sorted(records)]

    def _check(self) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")

    def _read(self) -> dict[str, ProcessRecord]:
        if self._path is None or not self._path.exists():
            return self._records
        raw = json.loads(self._path.read_text())
        return {r["id"]: ProcessRecord(**{**r, "kind": ProcessKind(r["kind"])}) for r in raw}

    def _write(self, records: dict[str, ProcessRecord]) -> None:
        self._records = records
        if self._path is not None:
            self._path.write_text(json.dumps([asdict(r) for r in records.values()]))
