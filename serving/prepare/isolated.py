"""Runs work that may end its process in a child, so that its death becomes a reason instead of the end of prepare.

TensorFlow Lite's converter and interpreters are native code, and models exist on which they abort. Knows nothing of
them: it calls functions and hands back what they return.
"""

import ctypes
import errno
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from contracts.errors import Unavailable

_PR_SET_PDEATHSIG = 1


class DiedOrLate(Exception):
    """The work gave no answer; the text says why, as the end of a sentence."""


class Isolation(Protocol):
    """One piece of work at a time: `submit`, then `result`."""

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Begin `function(*args)`; both, and what it returns, can be pickled."""

    def result(self, seconds: float) -> Any:
        """What the function returned. Raises DiedOrLate when there is no answer, Unavailable for a full disk, and
        RuntimeError with the text of anything else it raised."""

    def close(self) -> None:
        """Leave nothing running."""


class Inline:
    """No isolation: the work happens in `submit`. For work that is trusted, and for tests."""

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        self._answer = _attempt(function, args)

    def result(self, seconds: float) -> Any:
        return _unfold(self._answer)

    def close(self) -> None:
        return


class Forked:
    """A child forked where this object is made; submitted work runs there.

    Make it after TensorFlow was imported and before anything of it runs: the import starts no threads of TensorFlow's
    own, so this fork is safe, and the child is spared an import of several seconds. The child dies with its parent.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._line, childs_end = context.Pipe()
        self._child = context.Process(target=_serve, args=(childs_end, self._line, os.getpid()), daemon=True)
        self._child.start()
        childs_end.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._line.send((function, args))
        except BrokenPipeError:
            return  # the child died of the work before; result() says so

    def result(self, seconds: float) -> Any:
        try:
            if not self._line.poll(seconds):
                self.close()
                raise DiedOrLate(f"took longer than {seconds:.0f} s")
            return _unfold(self._line.recv())
        except (EOFError, ConnectionError, OSError) as error:
            self._child.join()
            raise DiedOrLate(f"ended its process ({_ending(self._child.exitcode)})") from error

    def close(self) -> None:
        self._child.kill()
        self._child.join()


def die_with_parent(parent: int) -> None:
    """End this process when `parent`, its parent, ends, even in the middle of native code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _serve(line: Connection, parents_end: Connection, parent: int) -> None:
    """The child: one job after the other until the parent hangs up."""
    parents_end.close()
    die_with_parent(parent)
    while True:
        try:
            function, args = line.recv()
        except EOFError:
            return
        line.send(_attempt(function, args))


def _attempt(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "returned", function(*args)
    except Exception as error:
        if is_full_disk(error):
            return "full", str(error)
        traceback.print_exc()  # to standard error; the caller gets the text only
        return "raised", f"{type(error).__name__}: {error}"


def _unfold(answer: tuple[str, Any]) -> Any:
    kind, value = answer
    if kind == "returned":
        return value
    if kind == "full":
        raise Unavailable("no space left on the disk that packages are written to: free some and register again")
    raise RuntimeError(value)


def is_full_disk(error: BaseException) -> bool:
    """A disk, a quota or the caller's limit on file sizes. TensorFlow's writers only say it in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
