"""Turns measured values into a table for people and a JSON file for machines, both with the machine named."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.machine import describe

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One claim: what was measured, the value of every round, the goal, and whether the median meets it.

    `goal` is the number from the issue; `at_least` says which side of it is good. A row without a goal informs."""

    name: str
    unit: str
    rounds: tuple[float, ...]
    goal: float | None = None
    at_least: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median >= self.goal if self.at_least else self.median <= self.goal


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Round by round, so that a slow minute of the machine hits both sides."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def table(title: str, rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The rows as a Markdown table: median, spread, goal, verdict."""
    lines = [f"# {title}", ""]
    lines += ["| what | median | lowest … highest | goal | met |", "|---|---|---|---|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{'≥' if row.at_least else '≤'} {_number(row.goal)} {row.unit}"
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        spread = f"{_number(min(row.rounds))} … {_number(max(row.rounds))}"
        lines.append(f"| {row.name} | {_number(row.median)} {row.unit} | {spread} | {goal} | {met} |")
    lines += ["", *(f"- {note}" for note in notes)]
    machine = ", ".join(f"{key} {value}" for key, value in describe().items())
    return "\n".join([*lines, "", f"Machine: {machine}. Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", ""])


def goals_of(rows: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """From the rows of a kept JSON file: how many goals were met, and the names of those that were missed."""
    goals = [
        row for row in (Row(**{**given, "rounds": tuple(given["rounds"])}) for given in rows) if row.met is not None
    ]
    return sum(row.met is True for row in goals), [row.name for row in goals if not row.met]


def keep(name: str, title: str, rows: Sequence[Row], notes: Sequence[str]) -> Path:
    """Write results/NAME.md and results/NAME.json; return the Markdown file."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.md"
    target.write_text(table(title, rows, notes))
    value = {"title": title, "machine": describe(), "rows": [asdict(r) for r in rows], "notes": list(notes)}
    (RESULTS / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
    return target


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
