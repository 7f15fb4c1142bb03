"""The crash journal: which requests were inside the engine when a process died, readable by those who live on.

A small file mapped into memory: writing costs a tenth of a microsecond and no system call, and what was written is
there after any death of the process, SIGKILL included. Judges nobody; guard.py does.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

_SUFFIX = ".journal"
_ONE = struct.Struct("<QQ")
_COUNT = struct.Struct("<Q")
_log = logging.getLogger(__name__)


class Journal:
    """One process's journal in `folder`; holds up to `most` marks of one run at a time.

    Raises OSError when the folder takes no file or the disk is full."""

    def __init__(self, folder: Path, most: int) -> None:
        size = _COUNT.size * (1 + most)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        making = self._path.with_suffix(".making")
        # The lock is the sign of life: the kernel lets go of it when the process dies, however it dies. Locked under
        # another name first, so that nobody ever meets a living process's journal without it.
        self._descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Real blocks, not a hole: writing into a mapped hole of a full disk ends the process with SIGBUS.
            os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
            making.rename(self._path)
        except OSError:
            making.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise

    def begin(self, marks: Sequence[int]) -> None:
        """A run over the requests with these marks is about to start."""
        if len(marks) == 1:
            _ONE.pack_into(self._map, 0, 1, marks[0])
        else:
            struct.pack_into(f"<{1 + len(marks)}Q", self._map, 0, len(marks), *marks)

    def end(self) -> None:
        """The run is over and the process is still here."""
        _COUNT.pack_into(self._map, 0, 0)

    def close(self, *, peaceful: bool) -> None:
        """Let go. Ended in peace, this process leaves no trace; otherwise the run it is in stays on record."""
        if peaceful:
            self._path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._descriptor)

    def others(self) -> tuple[Path, ...]:
        """The journals of the other processes of the folder, dead or alive."""
        return tuple(p for p in self._path.parent.glob(f"*{_SUFFIX}") if p != self._path)


def open_journal(folder: Path | None, most: int) -> Journal | None:
    """A journal where one can be kept; serving without one beats not serving."""
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Journal(folder, most)
    except OSError as error:
        _log.warning("no crash journal in %s, so a deadly input may be found later than it could: %s", folder, error)
        return None


def read_marks(path: Path) -> frozenset[int]:
    """The marks of the run that the journal's owner is, or was, in; empty when the file is gone or makes no sense."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if len(content) >= _COUNT.size:
            (count,) = _COUNT.unpack_from(content)
            if 0 < count < len(content) // _COUNT.size:
                return frozenset(struct.unpack_from(f"<{count}Q", content, _COUNT.size))
    return frozenset()


def abandoned(journals: Iterable[Path]) -> list[Path]:
    """Those whose owner has died."""
    return [path for path in journals if _is_free(path)]


def _is_free(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
