"""The worker's own socket: made before anything else, removed at the end if it is still ours."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Conflict, InvalidInput

_BACKLOG = 2048
_UNIX_PATH_BYTES = 107


@dataclass(frozen=True)
class Listener:
    """A bound socket. `path` and `inode` name the socket file, None for TCP."""

    socket: socket.socket
    path: Path | None = None
    inode: int | None = None

    def remove(self) -> None:
        """Remove the socket file, unless somebody has put another one there since."""
        if self.path is not None and self.path.exists() and self.path.stat().st_ino == self.inode:
            self.path.unlink()


def listen(address: str) -> Listener:
    """Listen on a Unix socket path or on "host:port". A socket file nobody answers on is a dead worker's and is
    replaced; one that answers raises Conflict, as does a port in use. InvalidInput for what is no address."""
    return _listen_unix(Path(address)) if "/" in address else _listen_tcp(address)


def _listen_unix(path: Path) -> Listener:
    if len(os.fsencode(path)) > _UNIX_PATH_BYTES:
        raise InvalidInput(f"socket path {path} is longer than the {_UNIX_PATH_BYTES} bytes Unix allows")
    if path.is_socket():
        if _answers(path):
            raise Conflict(f"socket {path} is in use by another process")
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # only this user may talk to a worker; set at birth, not a moment later
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise Conflict(f"cannot listen on socket {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    bound.listen(_BACKLOG)
    return Listener(bound, path, path.stat().st_ino)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # alive, and too busy to answer
        return True


def _listen_tcp(address: str) -> Listener:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"socket {address!r} is neither a path with a '/' nor \"host:port\"")
    host = host.strip("[]")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
    except OSError as error:
        bound.close()
        raise Conflict(f"cannot listen on {address}: {error.strerror}") from error
    bound.listen(_BACKLOG)
    return Listener(bound)
