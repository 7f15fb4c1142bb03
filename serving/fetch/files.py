"""What lies elsewhere, as a list of files with their sizes, and the bounds on what may be brought here. No I/O."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from contracts.errors import InvalidInput, TooLarge, Unavailable
from serving.prepare.layout import Names

MAX_LISTED = 100_000  # files looked at below an address; a directory of versions holds more than one model
MAX_FILES = 10_000  # of one model
MAX_BYTES = 64 << 30  # of one model
_NAME_BYTES = 255  # of one part of a path, as file systems have it
_PATH_BYTES = 1024


@dataclass(frozen=True)
class Remote:
    """A file elsewhere: path below the address, size in bytes, and the mark that changes with its content."""

    path: str
    size: int
    mark: str | None = None


Read = Callable[[Remote, int], bytes]


class Listing:
    """Files below an address as layout.Tree. `read` gets the first bytes of one of them."""

    def __init__(self, files: Iterable[Remote], read: Read) -> None:
        listed = {file.path: file for file in files}
        # An object named like a directory is how consoles of clouds draw folders.
        above = {"/".join(path.split("/")[:i]) for path in listed for i in range(1, path.count("/") + 1)}
        self.files: Mapping[str, Remote] = {p: f for p, f in listed.items() if p and not (p in above and f.size == 0)}
        self._read = read

    def names(self, below: str) -> Names:
        prefix = f"{below}/" if below else ""
        rest = [path.removeprefix(prefix) for path in self.files if path.startswith(prefix)]
        return Names(
            frozenset(name for name in rest if "/" not in name),
            frozenset(name.split("/")[0] for name in rest if "/" in name),
        )

    def read(self, path: str, limit: int) -> bytes:
        file = self.files[path]
        if file.size > limit:
            raise TooLarge(f"source: {path} is bigger than {limit} bytes")
        return self._read(file, file.size)


def check(wanted: Iterable[Remote], source: str, free: int) -> list[Remote]:
    """The files to fetch, when their number, size and names can be taken and `free` bytes of disk hold them."""
    files = sorted(wanted, key=lambda file: file.path)
    if len(files) > MAX_FILES:
        raise InvalidInput(f"source {source}: expected a model of at most {MAX_FILES} files, got {len(files)}")
    total = sum(file.size for file in files)
    if total > MAX_BYTES:
        raise InvalidInput(f"source {source}: expected a model of at most {MAX_BYTES} bytes, got {total}")
    paths = {file.path for file in files}
    for path in sorted(paths):
        if (why := odd_name(path)) is not None:
            raise InvalidInput(f"source {source}: {path[:100]!r} {why}: no such name is written to this disk")
        if any(parent in paths for parent in _parents(path)):
            raise InvalidInput(f"source {source}: {path!r} lies below a file of that name: no disk holds both")
    if total > free:
        raise Unavailable(
            f"source {source}: it has {total >> 20} MiB, and the disk has {free >> 20} MiB left: free some and "
            "register again"
        )
    return files


def odd_name(path: str) -> str | None:
    """What is wrong with a relative path that a stranger chose; None when it may be written below a directory."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "is no path below the model"
    if not path.isprintable() or "\\" in path:
        return "has characters that names of files do not have"
    if any(len(part.encode()) > _NAME_BYTES for part in parts) or len(path.encode()) > _PATH_BYTES:
        return "is too long"
    return None


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
