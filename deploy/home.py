"""The home directory: where everything lives, who may run the gateway on it, and how others find the running gateway.

Knows paths, one lock and one small file; what is inside the database or a package is others' business.
"""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.errors import Conflict, Unavailable

DEFAULT_HOME = ".teal"
SOCKET_PATH_MAX = 107  # bytes of a Unix socket's path; sun_path holds 108 with the closing zero
SOCKET_NAME_MAX = 24  # bytes kept free for the name of a socket inside the socket directory


@dataclass(frozen=True)
class Gateway:
    """What `gateway.json` says about the running control plane. `started_at` is wall time in seconds."""

    pid: int
    port: int
    admin_port: int
    started_at: float


class Home:
    """One home directory. Creating the object creates what is missing, readable by its owner only.

    Raises Unavailable when the place cannot be written."""

    def __init__(self, path: Path | str = DEFAULT_HOME) -> None:
        self.path = Path(path).expanduser().absolute()
        self.state = self.path / "state.db"
        self.packages = self.path / "packages"
        self.staging = self.packages / ".staging"
        self.logs = self.path / "logs"
        self.predictions = self.path / "predictions"
        self.run = self.path / "run"
        try:
            for directory in (self.path, self.packages, self.staging, self.logs, self.predictions, self.run):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"cannot use {self.path} as home: {error.strerror} ({error.filename}); choose another with --home"
            ) from error
        self.sockets = self._socket_directory()

    @property
    def xds_socket(self) -> Path:
        return self.sockets / "xds.sock"

    @property
    def envoy_admin_socket(self) -> Path:
        return self.sockets / "envoy-admin.sock"

    def package(self, digest: str) -> Path:
        """Where the package with this digest lies (or would lie)."""
        return self.packages / digest

    def packed(self, digest: str) -> Path:
        """Where this machine's workers keep the packed weights of the package with this digest."""
        return self.packages / ".packed" / digest

    def _socket_directory(self) -> Path:
        """`run/` when its sockets fit into a Unix socket path, else a short directory made from the home's own path,
        so that the next start finds the same one."""
        if _holds_sockets(self.run):
            return self.run
        name = f"teal-{os.getuid()}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}"
        # TMPDIR may be a deep place, too.
        fitting = (Path(d) / name for d in (tempfile.gettempdir(), "/tmp") if _holds_sockets(Path(d) / name))  # noqa: S108
        return self._remembered() or next(fitting)

    def _open_socket_directory(self) -> None:
        """Make the directory if it is missing, and refuse one that is not ours alone: the temporary directory is
        shared, and somebody else may have been there first. Remembered, because TMPDIR may differ next time."""
        if self.sockets == self.run:
            return
        try:
            self.sockets.mkdir(mode=0o700, exist_ok=True)
            found = self.sockets.lstat()
            mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if not mine or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(1, "it belongs to somebody else or is open to others", str(self.sockets))
            memory = json.dumps({"home": str(self.path), "sockets": str(self.sockets)})
            write_atomically(self.run / "socket-directory.json", memory.encode())
        except OSError as error:
            raise Unavailable(f"cannot keep sockets in {self.sockets}: {error.strerror}; remove it") from error

    def _close_socket_directory(self) -> None:
        """Leave nothing in the temporary directory, unless workers that live on still use it."""
        if self.sockets != self.run:
            with suppress(OSError):
                self.sockets.rmdir()

    def _remembered(self) -> Path | None:
        """What an earlier start of this very home chose; a copied home must not share sockets with its original."""
        try:
            said = json.loads((self.run / "socket-directory.json").read_text())
            return Path(said["sockets"]) if said["home"] == str(self.path) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def gateway_lock(self) -> Iterator[None]:
        """Hold this home as its only gateway. Raises Conflict naming the process that holds it already.

        The kernel lets go when the process dies, however it dies; the pid inside is for people."""
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Conflict(
                    f"a gateway already runs on {self.path} (pid {holder}); stop it first or choose another --home"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._open_socket_directory()
            yield
            self._close_socket_directory()
        finally:
            os.close(descriptor)

    def announce(self, gateway: Gateway) -> None:
        """Write `gateway.json` so that commands find the ports; whole or not at all."""
        write_atomically(self.run / "gateway.json", json.dumps(asdict(gateway)).encode())

    def withdraw(self) -> None:
        (self.run / "gateway.json").unlink(missing_ok=True)

    def gateway(self) -> Gateway | None:
        """The running gateway, or None. A file left by a gateway that was killed does not count: its lock is free."""
        try:
            said = Gateway(**json.loads((self.run / "gateway.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return said if self._is_held() else None

    def _is_held(self) -> bool:
        try:
            descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # A shared lock: two readers asking at once must not take each other for a gateway.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _holds_sockets(directory: Path) -> bool:
    return len(os.fsencode(directory)) + 1 + SOCKET_NAME_MAX <= SOCKET_PATH_MAX


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: a reader sees the former bytes or these, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
