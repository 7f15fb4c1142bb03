"""An engine in a process of its own, for inputs that may end the process that computes them.

`ScratchEngine` is the side that lives on; the process itself is scratch_process.py. Started when needed, and again
after each death. Whoever suspects an input decides elsewhere; this only runs it and says how it ended.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from serving.engine.base import Array, Tensors
from serving.engine.frames import OUTPUTS, READY, RUN, Frame, receive, send

_START_SECONDS = 120.0  # TensorFlow's import and a big model's load on a busy machine


class ProcessDied(Exception):
    """The scratch process ended during a run. `signal` is what ended it, or None when it left with an exit code."""

    def __init__(self, ending: str, number: int | None) -> None:
        super().__init__(f"the process {ending}")
        self.signal = number


class ScratchUnavailable(Exception):
    """No scratch process could be had, so nothing is known about the input."""


class ScratchEngine:
    """Runs the plan of the package at `package` in another process, one input at a time; blocks its caller.

    Belongs to one thread, and that thread has to outlive it: the process is ended by the kernel when the thread that
    started it ends, so that no death of ours leaves it behind."""

    def __init__(self, package: Path, threads: int = 0, packed: str = "") -> None:
        self._argv = [sys.executable, "-m", "serving.engine.scratch_process", str(package), str(threads), packed]
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def run(self, signature: str, inputs: Tensors, seconds: float) -> dict[str, Array]:
        """Outputs of one run. Raises ProcessDied when it ended the process; TimeoutError when it took longer than
        `seconds`, the start of the process not counted; RuntimeError with the text of what the engine raised;
        ScratchUnavailable when the process does not start; ValueError for inputs that no frame can hold."""
        line = self._line if self._line is not None else self._start()
        line.settimeout(max(seconds, 0.001))
        try:
            send(line, RUN, signature, inputs)
            answer = receive(line)
        except TimeoutError:
            self.close()
            raise
        except OSError:
            answer = None
        if answer is None:
            raise self._death()
        return _unfold(answer)

    def close(self) -> None:
        """End the process, if there is one. The next run starts another."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        # Without the marks by which the control plane knows its workers: this is none, and must not be adopted.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAL_")}
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*self._argv, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what a model prints goes to our log and not to a caller
                    env=environment,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                raise ScratchUnavailable(f"no scratch process: {error}") from error
        self._line = ours
        ours.settimeout(_START_SECONDS)
        try:
            hello = receive(ours)
        except OSError as error:
            self.close()
            raise ScratchUnavailable(f"the scratch process did not get ready: {error}") from error
        if hello is None or hello.kind != READY:
            self.close()
            raise ScratchUnavailable(f"the scratch process could not load: {hello.text if hello else 'it died'}")
        return ours

    def _death(self) -> ProcessDied:
        process = self._process
        if process is None:
            raise ScratchUnavailable("the scratch process was closed")
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hung up; if it lives on, it is ended here
            process.wait(timeout=5.0)
        code = process.poll()
        self.close()
        if code is None:
            return ProcessDied("stopped answering", None)
        if code < 0:
            return ProcessDied(f"was killed by {signal.Signals(-code).name}", -code)
        return ProcessDied(f"exited with code {code}", None)

    def _reap(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.wait()
        self._line = self._process = None


def _unfold(answer: Frame) -> dict[str, Array]:
    if answer.kind != OUTPUTS:
        raise RuntimeError(answer.text)
    return dict(answer.arrays)
