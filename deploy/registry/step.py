"""Runs one of `serving`'s steps, fetch or prepare, as a process of its own, within limits, and reads what it says: JSON
lines as in contracts.prepare. What goes wrong in there is a sentence here, never a crash.
"""

import contextlib
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
from contracts.errors import Internal, TealError, Unavailable

log = logging.getLogger(__name__)

Progress = Callable[[str, str], None]  # stage, detail
_ERRORS: Mapping[str, type[TealError]] = {
    kind.code: kind
    for kind in (
        *(errors.InvalidInput, errors.NotFound, errors.Conflict, errors.TooLarge, errors.Unsupported),
        *(errors.Unavailable, errors.DeadlineExceeded, errors.Internal),
    )
}
_LINE_MAX = 1 << 22  # of one line on standard output; lineage travels in one, and a model may print what it likes
_NO_SPACE = os.strerror(errno.ENOSPC)
_PRINTED = "printed: "
_TAIL = 2000  # characters of the log shown when a step dies without a word


@dataclass(frozen=True)
class StepLimits:
    """What a step may use. There is no limit on address space: TensorFlow maps many times what it touches.

    seconds      wall time          file_bytes   size of one written file
    nice         priority below everything that serves
    """

    seconds: float = 1800.0
    file_bytes: int = 64 << 30
    nice: int = 10


@dataclass(frozen=True)
class Step:
    """`what` is the step in words: "preparing the model". `inherit` is a descriptor the process keeps open (the staging
    lock: should this process be killed, nobody collects the directory while the other still writes)."""

    what: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    inherit: int
    log_path: Path
    limits: StepLimits


def run(step: Step, progress: Progress) -> Mapping[str, Any]:
    """Run the step to its end and return its result. Raises what it reported, Unavailable when it took too long,
    OSError (ENOSPC) when the disk is full, Internal when it died without a word."""
    with step.log_path.open("ab", buffering=0) as diary:
        process = subprocess.Popen(
            step.argv,
            env=step.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=diary,
            pass_fds=(step.inherit,),
            start_new_session=True,  # so that its own children end with it, and Ctrl-C comes to us alone
        )
        _limit(process.pid, step.limits)
        late = threading.Event()
        alarm = threading.Timer(step.limits.seconds, _expire, (process, late))
        alarm.start()
        try:
            said = _listen(process, diary, progress)
            code = process.wait()
        finally:
            alarm.cancel()
            _end(process)
    if late.is_set():
        raise Unavailable(
            f"{step.what} took longer than {step.limits.seconds:g} s and was stopped; see {step.log_path}"
        )
    return _understand(said, code, step)


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


def _understand(said: Mapping[str, Any], code: int, step: Step) -> Mapping[str, Any]:
    result, error = said.get("result"), said.get("error")
    if code == 0 and isinstance(result, dict):
        return result
    tail = step.log_path.read_bytes()[-_TAIL:].decode(errors="replace")
    if _NO_SPACE in str(said) or _NO_SPACE in tail:
        raise OSError(errno.ENOSPC, _NO_SPACE)
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        raise _ERRORS.get(str(error.get("code")), Internal)(error["message"])
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    # What it printed comes to the log through us, later than its standard error, so it is not what it said last.
    last_words = [line for line in tail.strip().splitlines() if not line.startswith(_PRINTED)]
    raise Internal(
        f"{step.what} {how} without saying why; nothing was registered. "
        f"Its last words: {last_words[-1][:300] if last_words else 'none'}. The whole log is {step.log_path}"
    )


def _limit(pid: int, limits: StepLimits) -> None:
    """Set from outside, because code between fork and exec is not safe in a process with threads."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, limits.nice)
        # Where Linux weighs sessions first, and this is one of its own, nice alone would not count against others.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(limits.nice))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        # Bounds one that nobody watches any more because this process was killed.
        cpu = math.ceil(limits.seconds * (os.cpu_count() or 1))
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    except ProcessLookupError:
        log.debug("step %d ended before its limits were set", pid)


def _expire(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing of the session running, and no zombie."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("step %d and its children had ended by themselves", process.pid)
    except PermissionError:
        log.warning("cannot end step %d and its children", process.pid)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
