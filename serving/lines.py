"""The JSON lines with which a process started by the control plane tells what it does (contracts.prepare, .fetch).

Standard output carries nothing else. Libraries, their C++ side included, print where they like, so the real standard
output is put aside and everything else goes to standard error.
"""

import json
import os
import threading
from typing import Any

from contracts.errors import TealError


class Lines:
    """Our end of the pipe to the caller. After the last line, `result` or `error`, nothing is written any more."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._ended = False

    def stage(self, stage: str, detail: str) -> None:
        self._write({"stage": stage, "detail": detail}, last=False)

    def result(self, **facts: Any) -> None:
        self._write({"result": facts}, last=True)

    def error(self, error: TealError) -> None:
        self._write({"error": {"code": error.code, "message": error.message}}, last=True)

    def _write(self, line: dict[str, Any], last: bool) -> None:
        with self._lock:
            if not self._ended:
                self._ended = last
                self._stream.write(json.dumps(line) + "\n")
                self._stream.flush()
