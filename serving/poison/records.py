"""Who is under suspicion and who is convicted, kept in a folder that all workers of a version share.

Every fact is the name of an empty file, so it is written whole or not at all, needs no space on a full disk, and holds
nothing that a reader could choke on. Times are wall-clock seconds since the epoch: a restart must not free anybody.
"""

import contextlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from contracts.limits import LIMITS

SUSPECT_SECONDS = 24 * 3600.0
QUARANTINE_SECONDS = LIMITS.quarantine_seconds
_MOST = 4096  # records in force at a time; what nobody asks for again is forgotten first by its age

_SUSPECT = re.compile(r"suspect-([0-9a-f]{16})-(\d{1,12})")
_CONVICTED = re.compile(r"convicted-([0-9a-f]{16})-([0-9a-f]{64})-(\d{1,12})")
_log = logging.getLogger(__name__)


@dataclass
class Known:
    """What holds now: suspects by mark and convictions by fingerprint, each with the time at which it ends."""

    suspects: dict[int, float] = field(default_factory=dict)
    convicted: dict[str, float] = field(default_factory=dict)
    convicted_marks: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.suspects or self.convicted)


class Records:
    """The folder as one process sees it. Where it cannot be written, this process remembers for itself."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._own: set[str] = set()  # names of records that the folder did not take
        self.known = Known()

    def refresh(self, now: float) -> None:
        """Read the folder again; records whose time is over are removed."""
        names = set(self._own)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                names.update(entry.name for entry in self._folder.iterdir())
        known = Known()
        for name in sorted(names)[: 2 * _MOST]:
            self._take(known, name, now)
        self.known = known

    def suspect(self, marks: Iterable[int], now: float) -> None:
        """These requests were inside a process that died."""
        for one in marks:
            if one not in self.known.suspects and len(self.known.suspects) < _MOST:
                self._write(f"suspect-{one:016x}-{int(now + SUSPECT_SECONDS)}", now)

    def acquit(self, mark: int, now: float) -> None:
        """A request with this mark was computed and nobody died."""
        if mark not in self.known.convicted_marks:
            self._remove(f"suspect-{mark:016x}-", now)

    def convict(self, mark: int, fingerprint: str, now: float) -> float:
        """This input, and no other, ended the process that computed it alone. Returns until when it is refused;
        after that it stays a suspect."""
        until = now + QUARANTINE_SECONDS
        self._remove(f"suspect-{mark:016x}-", now)
        self._write(f"suspect-{mark:016x}-{int(until + SUSPECT_SECONDS)}", now)
        if len(self.known.convicted) < _MOST:
            self._write(f"convicted-{mark:016x}-{fingerprint}-{int(until)}", now)
        return until

    def _take(self, known: Known, name: str, now: float) -> None:
        suspect, convicted = _SUSPECT.fullmatch(name), _CONVICTED.fullmatch(name)
        found = suspect or convicted
        if found is None:
            return
        until = float(found[found.lastindex or 1])
        if until <= now:
            self._discard(name)
        elif suspect is not None:
            known.suspects[int(suspect[1], 16)] = until
        elif convicted is not None:
            known.convicted[convicted[2]] = until
            known.convicted_marks.add(int(convicted[1], 16))

    def _write(self, name: str, now: float) -> None:
        try:
            if self._folder is None:
                raise FileNotFoundError("there is no folder to share")
            (self._folder / name).touch(mode=0o600)
        except OSError as error:
            if self._folder is not None:
                _log.warning("a record about a deadly input stays in this process only: %s", error)
            self._own.add(name)
        self._take(self.known, name, now)

    def _remove(self, prefix: str, now: float) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                for path in list(self._folder.glob(f"{prefix}*")):
                    path.unlink(missing_ok=True)
        self._own = {name for name in self._own if not name.startswith(prefix)}
        self.refresh(now)

    def _discard(self, name: str) -> None:
        self._own.discard(name)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
