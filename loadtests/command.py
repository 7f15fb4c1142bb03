"""What all benchmarks share as commands: `--rounds`, `--seconds`, progress on standard error, a table at the end."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests import report
from loadtests.report import Row

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Options:
    """How often everything is measured, and for how long each time."""

    rounds: int
    seconds: float


def options(name: str, description: str | None, *, rounds: int, seconds: float) -> Options:
    parser = argparse.ArgumentParser(prog=f"python -m loadtests.{name}", description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"{rounds} if left out")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of each measurement; {seconds:g} if left out")
    given = parser.parse_args()
    if given.rounds < 1 or given.seconds < 1:
        parser.error("expected at least 1 round of at least 1 second")
    return Options(given.rounds, given.seconds)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.monotonic() - _STARTED:7.1f} s  {text}", file=sys.stderr, flush=True)


def publish(name: str, title: str, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Keep the results and print them."""
    print(report.keep(name, title, rows, notes).read_text())
