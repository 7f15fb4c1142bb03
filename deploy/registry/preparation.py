"""Runs `serving.prepare` as a process of its own, within limits, and reads what it says. A model is a program: what
goes wrong in there is a sentence here, never a crash.
"""

import errno
import json
import logging
import math
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts import errors
from contracts.errors import Conflict, Internal, InvalidInput, NotFound, TealError, Unavailable, Unsupported
from deploy.fleet.environment import DEFAULTS, PASSED_ON

log = logging.getLogger(__name__)

Progress = Callable[[str, str], None]  # stage, detail
_ERRORS: Mapping[str, type[TealError]] = {
    kind.code: kind for kind in (InvalidInput, NotFound, Conflict, Unsupported, Unavailable, Internal, errors.TooLarge)
}
_LINE_MAX = 1 << 20  # of one line on standard output; a model may print what it likes
_NO_SPACE = os.strerror(errno.ENOSPC)
_PRINTED = "printed: "
_TAIL = 2000  # characters of the log shown when prepare dies without a word


@dataclass(frozen=True)
class PrepareLimits:
    """What a preparation may use. There is no limit on address space: TensorFlow maps many times what it touches.

    seconds      wall time          file_bytes   size of one written file
    nice         priority below everything that serves
    """

    seconds: float = 1800.0
    file_bytes: int = 64 << 30
    nice: int = 10


@dataclass(frozen=True)
class Prepared:
    digest: str
    plan: str


def prepare(
    argv: Sequence[str], *, inherit: int, log_path: Path, limits: PrepareLimits, progress: Progress
) -> Prepared:
    """Run prepare to its end. `inherit` is a descriptor the process keeps open (the staging lock: should this process
    be killed, nobody collects the directory while the other still writes). Raises what prepare reported, Unavailable
    when it took too long, OSError (ENOSPC) when the disk is full, Internal when it died without a word."""
    with log_path.open("ab", buffering=0) as diary:
        process = subprocess.Popen(
            argv,
            env={**DEFAULTS, **{name: os.environ[name] for name in PASSED_ON if name in os.environ}},  # no secrets
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=diary,
            pass_fds=(inherit,),
            start_new_session=True,  # so that its own children end with it
        )
        _limit(process.pid, limits)
        late = threading.Event()
        alarm = threading.Timer(limits.seconds, _expire, (process, late))
        alarm.start()
        try:
            said = _listen(process, diary, progress)
            code = process.wait()
        finally:
            alarm.cancel()
            _end(process)
    if late.is_set():
        raise Unavailable(
            f"preparing the model took longer than {limits.seconds:g} s and was stopped; see {log_path}",
        )
    return _understand(said, code, log_path)


def _listen(process: "subprocess.Popen[bytes]", diary: Any, progress: Progress) -> dict[str, Any]:
    """Read JSON lines until the output ends; return the one that ends them. What is not ours goes to the log."""
    last: dict[str, Any] = {}
    if process.stdout is None:
        return last
    while line := process.stdout.readline(_LINE_MAX):
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict) and ("result" in message or "error" in message):
            last = message
        elif isinstance(message, dict) and "stage" in message:
            progress(str(message["stage"]), str(message.get("detail", "")))
        else:
            diary.write(_PRINTED.encode() + line)
    return last


def _understand(said: Mapping[str, Any], code: int, log_path: Path) -> Prepared:
    result, error = said.get("result"), said.get("error")
    if code == 0 and isinstance(result, dict) and {"digest", "plan"} <= result.keys():
        return Prepared(str(result["digest"]), str(result["plan"]))
    tail = log_path.read_bytes()[-_TAIL:].decode(errors="replace")
    if _NO_SPACE in str(said) or _NO_SPACE in tail:
        raise OSError(errno.ENOSPC, _NO_SPACE)
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        raise _ERRORS.get(str(error.get("code")), Internal)(error["message"])
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    # What it printed comes to the log through us, later than its standard error, so it is not what it said last.
    last_words = [line for line in tail.strip().splitlines() if not line.startswith(_PRINTED)]
    raise Internal(
        f"preparing the model {how} without saying why; nothing was registered. "
        f"Its last words: {last_words[-1][:300] if last_words else 'none'}. The whole log is {log_path}"
    )


def _limit(pid: int, limits: PrepareLimits) -> None:
    """Set from outside, because code between fork and exec is not safe in a process with threads."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, limits.nice)
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        # Bounds one that nobody watches any more because this process was killed.
        cpu = math.ceil(limits.seconds * (os.cpu_count() or 1))
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    except ProcessLookupError:
        log.debug("prepare %d ended before its limits were set", pid)


def _expire(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing of the session running, and no zombie."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("prepare %d and its children had ended by themselves", process.pid)
    except PermissionError:
        log.warning("cannot end prepare %d and its children", process.pid)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
