"""Requests without a network: a process of its own writes a byte into a pipe whenever one is due.

The event loop under test wakes for a byte as it would for a socket. Timers of its own would not do: they count
milliseconds, and asking the clock all the time would take Python's lock from the engine thread.

    python -m loadtests.arrivals FD START RATE SECONDS SEED
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from serving.engine.base import Array

LEAD_SECONDS = 0.5  # for the process to start


@dataclass(frozen=True)
class Arrivals:
    """Independent arrivals (Poisson) at `rate` per second for `seconds`, the same ones for the same `seed`."""

    rate: float
    seconds: float
    seed: int

    def schedule(self) -> Array:
        """When each is due, in seconds from the start, ascending."""
        random = np.random.default_rng(self.seed)
        # Six deviations more than expected: too few happens once in 10^9 runs, and then the run is a little shorter.
        expected = self.rate * self.seconds
        times = random.exponential(1 / self.rate, int(expected + 6 * expected**0.5) + 10).cumsum()
        return times[times < self.seconds]


@contextmanager
def arriving(arrivals: Arrivals) -> Iterator[tuple[int, float]]:
    """A pipe in which a byte appears for each arrival, and the start in monotonic seconds."""
    reading, writing = os.pipe()
    start = time.monotonic() + LEAD_SECONDS
    words = [str(writing), repr(start), repr(arrivals.rate), repr(arrivals.seconds), str(arrivals.seed)]
    process = subprocess.Popen([sys.executable, "-m", "loadtests.arrivals", *words], pass_fds=[writing])
    os.close(writing)
    os.set_blocking(reading, False)
    try:
        yield reading, start
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def feed(pipe: int, start: float, arrivals: Arrivals) -> None:
    """Write a byte for each arrival when its time has come."""
    schedule = arrivals.schedule()
    sent = 0
    while sent < len(schedule):
        now = time.monotonic() - start
        due = int(np.searchsorted(schedule, now, "right"))
        if due > sent:
            sent += os.write(pipe, b"." * min(due - sent, 4096))
        else:
            time.sleep(schedule[sent] - now)


if __name__ == "__main__":
    fd, begin, rate, seconds, seed = sys.argv[1:]
    feed(int(fd), float(begin), Arrivals(float(rate), float(seconds), int(seed)))
