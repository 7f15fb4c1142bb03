"""Where a batch job keeps what it writes: a folder or a bucket, both with writes that only ever create.

Does the steps of commit.py; which ones, and in what order, is decided there.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError
from obstore.store import ObjectStore

from contracts.errors import Unavailable
from serving.batch.commit import Create, Delete, Digest, List, Read, Step, Steps
from serving.stores import Address, said

_MAKING = ".making-"  # how files begin that are not whole yet; a reader's `part-*` does not match them
_CHUNK = 1 << 20
T = TypeVar("T")


class Objects(Protocol):
    """Objects by key. Every method raises Unavailable, with what to do, when the place does not answer or is full."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a whole object, durably, unless there is one: then False, and nothing changed."""

    def read(self, key: str) -> bytes | None: ...

    def digest(self, key: str) -> str | None: ...

    def keys(self, prefix: str) -> tuple[str, ...]: ...

    def delete(self, key: str) -> None: ...


def drive(steps: Steps[T], objects: Objects, before: Callable[[Step], None] = lambda _: None) -> T:
    """Do the steps of a protocol one by one and return what came of it. `before` is told each step before it is done:
    a failpoint, or the log."""
    try:
        step = next(steps)
        while True:
            before(step)
            step = steps.send(do(step, objects))
    except StopIteration as ended:
        result: T = ended.value
        return result


def do(step: Step, objects: Objects) -> Any:
    """One step's answer."""
    match step:
        case Create(key, content):
            return objects.create(key, content)
        case Read(key):
            return objects.read(key)
        case Digest(key):
            return objects.digest(key)
        case List(prefix):
            return objects.keys(prefix)
        case Delete(key):
            return objects.delete(key)


class Folder:
    """A folder of a local disk. A file appears under its name only when all of it is on the disk: written beside it,
    synced, and linked, which fails where there is a file already."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, key: str, content: bytes) -> bool:
        path = self._root / key
        with _told(self._root):
            path.parent.mkdir(parents=True, exist_ok=True)
            making = path.parent / f"{_MAKING}{secrets.token_hex(8)}"
            try:
                with making.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(making, path)
            except FileExistsError:
                return False
            finally:
                making.unlink(missing_ok=True)
            _sync(path.parent)
        return True

    def read(self, key: str) -> bytes | None:
        with _told(self._root), contextlib.suppress(FileNotFoundError):
            return (self._root / key).read_bytes()
        return None

    def digest(self, key: str) -> str | None:
        with _told(self._root), contextlib.suppress(FileNotFoundError), (self._root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def keys(self, prefix: str) -> tuple[str, ...]:
        folder = self._root / prefix.rpartition("/")[0]
        with _told(self._root):
            found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(_MAKING))
            names = (p.relative_to(self._root).as_posix() for p in found)
            return tuple(sorted(name for name in names if name.startswith(prefix)))

    def delete(self, key: str) -> None:
        with _told(self._root):
            (self._root / key).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what writers left unfinished that died in the middle of a write. Only while nobody else writes."""
        with _told(self._root):
            for path in self._root.rglob(f"{_MAKING}*"):
                path.unlink(missing_ok=True)


class Bucket:
    """Keys below `address` in a bucket that knows conditional writes; `probe` finds out whether it does."""

    def __init__(self, store: ObjectStore, address: Address) -> None:
        self._store = store
        self._address = address
        self._prefix = f"{address.key}/" if address.key else ""

    def probe(self) -> None:
        """Raise Unavailable unless a second write to one key is refused. Leaves nothing behind."""
        key = f"_job/probe-{secrets.token_hex(8)}"
        try:
            if not self.create(key, b"1") or self.create(key, b"2"):
                raise Unavailable(
                    f"{self._address} overwrites objects that must be created only once, so two jobs at a time could "
                    "not be told apart: choose a bucket with conditional writes (If-None-Match), or a local folder"
                )
        finally:
            self.delete(key)

    def create(self, key: str, content: bytes) -> bool:
        with said(self._address):
            try:
                obstore.put(self._store, self._prefix + key, content, mode="create")
            except AlreadyExistsError:
                return False
            except NotSupportedError as error:
                raise Unavailable(f"{self._address}: this kind of bucket has no conditional writes") from error
        return True

    def read(self, key: str) -> bytes | None:
        with said(self._address), contextlib.suppress(FileNotFoundError):
            return bytes(obstore.get(self._store, self._prefix + key).bytes())
        return None

    def digest(self, key: str) -> str | None:
        with said(self._address), contextlib.suppress(FileNotFoundError):
            summed = hashlib.sha256()
            for chunk in obstore.get(self._store, self._prefix + key).stream(min_chunk_size=_CHUNK):
                summed.update(chunk)
            return summed.hexdigest()
        return None

    def keys(self, prefix: str) -> tuple[str, ...]:
        # A listing goes by whole parts of a key; what is asked for may end inside of one.
        folder = (self._prefix + prefix).rpartition("/")[0]
        with said(self._address):
            found = [each["path"] for page in obstore.list(self._store, prefix=folder or None) for each in page]
        names = (path.removeprefix(self._prefix) for path in found if path.startswith(self._prefix))
        return tuple(sorted(name for name in names if name.startswith(prefix)))

    def delete(self, key: str) -> None:
        with said(self._address), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, self._prefix + key)


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot write or read below {root}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    """A name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
