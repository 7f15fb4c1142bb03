"""Log files of children: bounded in size and number, and asked for the last words of the dead."""

import shutil
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 8 * 1024 * 1024  # of one file; one former file is kept beside it, so twice that at most
KEEP_FILES = 200  # workers come and go for years; their logs must not
TAIL_BYTES = 8 * 1024
LINE_CHARACTERS = 300


def former(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def open_log(path: Path, limit: int = LIMIT_BYTES) -> BinaryIO:
    """`path` opened for appending, the former content put aside when it has grown over `limit` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if size(path) > limit:
        path.replace(former(path))
    return path.open("ab")


def cap_log(path: Path, limit: int = LIMIT_BYTES) -> None:
    """Keep the log of a running process under `limit` bytes. The process holds the file open for appending, so the
    content is copied aside and the file cut to nothing; what is written in between is lost."""
    if size(path) > limit:
        shutil.copyfile(path, former(path))
        with path.open("r+b") as log:
            log.truncate(0)


def prune_logs(folder: Path, keep: int = KEEP_FILES) -> None:
    """Delete the worker logs that nobody has written to for longest, beyond `keep` files. A log in use is touched
    with every line, so it is only in danger when hundreds of newer ones exist."""
    found = sorted(folder.glob("worker-*.log*"), key=modified)
    for path in found[: max(len(found) - keep, 0)]:
        path.unlink(missing_ok=True)


def last_words(path: Path, since: int = 0) -> str:
    """The last line with anything in it that was written at or after byte `since`, made safe to show; "" when there
    is none."""
    length = size(path)
    start = max(0 if since > length else since, length - TAIL_BYTES)
    try:
        with path.open("rb") as log:
            log.seek(start)
            tail = log.read(TAIL_BYTES)
    except OSError:  # the dead have left no words, or none that can be read
        return ""
    for line in reversed(tail.decode("utf-8", "replace").splitlines()):
        clean = "".join(c if c.isprintable() else " " for c in line).strip()
        if clean:
            return clean if len(clean) <= LINE_CHARACTERS else clean[: LINE_CHARACTERS - 1] + "…"
    return ""


def size(path: Path) -> int:
    """Bytes in the file, 0 when there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
