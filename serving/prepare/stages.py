"""The stages of prepare, their longest times, and a watch that ends the process when one takes longer.

A model can loop for ever inside native code, where no exception reaches; so the watch is a thread and its last resort
is to leave the process, with an error that names the stage.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

# Seconds. Generous: they catch what hangs, not what is slow.
LONGEST: Mapping[str, float] = {
    "copy": 1800.0,
    "scan": 120.0,
    "import": 300.0,
    "export": 600.0,
    "load": 600.0,
    "samples": 300.0,
    "rows": 300.0,
    "convert": 900.0,
    "verify": 600.0,
    "write": 1800.0,
}


class Tell(Protocol):
    def __call__(self, stage: str, detail: str) -> None:
        """A stage of LONGEST begins."""


class Watch:
    """Tells progress and bounds every stage. `late` is called from another thread with the sentence to report."""

    def __init__(self, tell: Tell, late: Callable[[str], None], longest: Mapping[str, float] = LONGEST) -> None:
        self._tell, self._late, self._longest = tell, late, longest
        self._timer: threading.Timer | None = None
        self.stage = "start"

    def __call__(self, stage: str, detail: str) -> None:
        self.stop()
        self.stage = stage
        self._tell(stage, detail)
        seconds = self._longest[stage]
        sentence = f'preparing stopped in stage "{stage}": it took longer than {seconds:.0f} s'
        self._timer = threading.Timer(seconds, self._late, (sentence,))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
