"""The scratch process: loads a package's plan and runs what it is sent, one input after the other, until it dies of one
or its owner hangs up. Started by scratch.py as `python -m serving.engine.scratch_process PACKAGE THREADS PACKED FD
OWNER`.
"""

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from contracts.package import read_manifest
from serving.engine.base import Array, Engine
from serving.engine.frames import OUTPUTS, RAISED, READY, receive, send
from serving.engine.opening import open_engine

_PR_SET_PDEATHSIG = 1
_NICENESS = 10  # innocent requests of other callers come first


def main(argv: list[str]) -> int:
    package, threads, packed, descriptor, owner = argv
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # even in the middle of native code
    if os.getppid() != int(owner):  # it died before the line above
        return 1
    # The owner's terminal and its process group may be told to stop; when to end is the owner's decision.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    with socket.socket(fileno=int(descriptor)) as line:
        try:
            # Not hashed again: the owner has verified the package and serves from it.
            shared = Path(packed) if packed else None
            engine = open_engine(Path(package), read_manifest(Path(package)), int(threads), shared)
        except Exception as error:
            send(line, RAISED, f"{type(error).__name__}: {error}")
            return 1
        send(line, READY)
        while (asked := receive(line)) is not None:
            _answer(line, engine, asked.text, dict(asked.arrays))
    return 0


def _answer(line: socket.socket, engine: Engine, signature: str, inputs: dict[str, Array]) -> None:
    try:
        outputs = engine.run(signature, inputs)
        send(line, OUTPUTS, arrays=outputs)
    except Exception as error:
        send(line, RAISED, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
