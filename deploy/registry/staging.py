"""Where a package is made before it is one, and how it becomes one at once: write aside, sync, rename.

A staging directory is locked as long as somebody works in it; what is unlocked was left by a killed process.
"""

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput
from contracts.package import verify
from deploy.failpoints import reach
from deploy.home import Home

log = logging.getLogger(__name__)

_LOCK = "lock"


@dataclass(frozen=True)
class Staging:
    """One directory to work in. `package` is the empty directory for the package, `fetched` the one for a source from
    elsewhere; `lock` is the open descriptor that keeps collectors away, to be inherited by the processes that fill
    them."""

    root: Path
    package: Path
    fetched: Path
    lock: int


@contextmanager
def staging(home: Home) -> Iterator[Staging]:
    """A fresh staging directory, removed in every case that lets this process live on."""
    with shelves_locked(home):  # a collector never sees the directory before its lock is held
        root = home.staging / uuid.uuid4().hex
        for part in ("package", "fetched"):
            (root / part).mkdir(mode=0o700, parents=True)
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield Staging(root, root / "package", root / "fetched", lock)
    finally:
        shutil.rmtree(root, ignore_errors=True)  # a remainder is collected at the next start
        os.close(lock)


@contextmanager
def shelves_locked(home: Home) -> Iterator[None]:
    """Be the only one who puts packages on the shelf or takes them off, across processes. Held for milliseconds:
    between a package's rename and its row, and between a row's end and its package's."""
    descriptor = os.open(home.packages / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_durable(package: Path) -> None:
    """Bring every byte and every name of `package` to the disk, and make its files read-only."""
    for path in sorted(package.rglob("*"), reverse=True):  # children before the directories that name them
        if path.is_file():
            path.chmod(0o444)
        _sync(path)
    _sync(package)


def put_on_shelf(home: Home, package: Path, digest: str) -> Path:
    """Give a durable `package` its place, whole or not at all. The same bytes may lie there already; if what lies
    there is damaged, it is replaced. Call with the shelves locked."""
    place = home.package(digest)
    if place.exists():
        if _is_whole(place, digest):
            return place
        log.warning("package %s on the shelf is damaged; it is replaced by the same package, registered again", digest)
        place.rename(package.parent / "damaged")  # leaves with the staging directory
    package.rename(place)
    _sync(home.packages)
    reach("register.renamed")
    return place


def take_off_shelf(home: Home, digest: str) -> None:
    """Remove a package nobody needs, and what was packed of it. Call with the shelves locked."""
    _remove(home.package(digest))
    _remove(home.packed(digest))


def collect(home: Home, needed: Collection[str]) -> tuple[str, ...]:
    """Remove what killed processes left: abandoned staging directories, packages and packed weights without a
    version. Returns their names. Call with the shelves locked and `needed` read under the same lock."""
    abandoned = [path for path in home.staging.iterdir() if _is_abandoned(path)]
    orphans = [path for path in home.packages.iterdir() if path.is_dir() and not path.name.startswith(".")]
    packed = home.packed("any").parent
    orphans += packed.iterdir() if packed.is_dir() else ()
    gone = abandoned + [path for path in orphans if path.name not in needed]
    for path in gone:
        _remove(path)
    return tuple(path.name for path in gone)


def _is_abandoned(root: Path) -> bool:
    try:
        descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_whole(place: Path, digest: str) -> bool:
    try:
        verify(place, digest)
    except InvalidInput as difference:
        log.warning("%s", difference.message)
        return False
    return True


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log.warning("could not remove %s; it is tried again at the next start", path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
