"""The file of packed weights that the replicas of a version map: found and checked, or made in a process of its own.

XNNPACK writes such a file in place, truncates one it cannot read under whoever has it mapped, and ends the process when
the disk is full (ai-edge-litert 2.3). So it only ever writes aside, in a child: `python -m serving.engine.packing
PACKAGE PART OWNER`. What replicas map was renamed whole and is named after its own hash. Having none costs memory only.
"""

import ctypes
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from contracts.package import Manifest, read_manifest
from serving.engine.litert_shared import SharedLitertEngine

_log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LONGEST = 120.0  # seconds; packing 100 MB takes 0.2 s
_ENDING = ".packed"
_PART = ".part"


class _CannotPack(Exception):
    """Why there will be no file."""


def packed_weights(package: Path, manifest: Manifest, model: Path, folder: Path) -> Path | None:
    """The packed weights of `model`, the file of the package's plan, for this processor and this LiteRT, in `folder`,
    which the version's workers share. None, with the reason in the log, when they cannot be had."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the second replica waits and finds what the first has made
            key = _key(manifest)
            return _found(folder, key) or _made(package, model, folder, key)
    except (OSError, _CannotPack) as error:
        _log.warning("every replica holds packed weights of its own: %s", error)
        return None


def _found(folder: Path, key: str) -> Path | None:
    """Whole, or gone: a file that does not hash to its name is removed. Who has it mapped keeps it."""
    for path in folder.glob(f"{key}-*{_ENDING}"):
        if path.stem == f"{key}-{_digest(path)}":
            return path
        _log.warning("the packed weights of this version are damaged; they are made again")
        path.unlink()
    return None


def _made(package: Path, model: Path, folder: Path, key: str) -> Path:
    for left in folder.glob(f"*{_PART}"):  # by a killed process: the lock is ours
        left.unlink()
    needed, free = 2 * model.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise _CannotPack(f"that takes up to {needed >> 20} MB of disk, and {free >> 20} MB are free")
    part = folder / f"{os.getpid()}{_PART}"
    command = [sys.executable, "-m", "serving.engine.packing", str(package), str(part), str(os.getpid())]
    # Without the marks by which the control plane knows its workers: this is none, and must not be adopted.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAL_")}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise _CannotPack(f"packing ended with code {done.returncode}: {said[-1] if said else 'no reason given'}")
        part.chmod(0o444)
        return part.rename(folder / f"{key}-{_digest(part)}{_ENDING}")
    except subprocess.TimeoutExpired as error:
        raise _CannotPack(f"packing was not done after {_LONGEST:.0f} s") from error
    finally:
        part.unlink(missing_ok=True)


def _key(manifest: Manifest) -> str:
    """What decides how weights are packed: library, processor, plan and shapes. The model itself is the folder's."""
    processor = {line for line in _cpuinfo() if line.startswith(("model name", "flags", "Features", "CPU part"))}
    facts = (version("ai-edge-litert"), platform.machine(), sorted(processor), manifest.plan, manifest.buckets)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(argv: list[str]) -> int:
    """Make the file, then see that a replica finds all it needs in it: one that is incomplete ends whoever maps it."""
    package, part, owner = Path(argv[0]), Path(argv[1]), int(argv[2])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it died before the line above
        return 1
    manifest = read_manifest(package)
    model = next(package / p.path for p in manifest.plans if p.name == manifest.plan and p.path is not None)
    _run_through(model, manifest, part)
    made = part.stat()
    _run_through(model, manifest, part)
    seen = part.stat()
    if (made.st_mtime_ns, made.st_size) != (seen.st_mtime_ns, seen.st_size):
        sys.stderr.write("the file was written anew when it was opened\n")
        return 1
    return 0


def _run_through(model: Path, manifest: Manifest, weights: Path) -> None:
    engine = SharedLitertEngine(model, manifest.signatures, manifest.buckets, 1, weights)
    for bucket in manifest.buckets:
        engine.warm(bucket)
    engine.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
