"""How the demo speaks: numbered chapters, progress bars on a terminal and plain lines elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.answers import GuardrailEvidence, RolloutState
from deploy.cli import render
from deploy.demo.tally import Tally

COLUMNS = ("share asked", "observed", "answers", "version {live}", "version {candidate}", "median", "p99", "failed")
WIDTHS = (13, 10, 9, 20, 20, 9, 9, 6)
EVIDENCE = ("share", "time", "version {live} failed", "version {candidate} failed", "odds: worse", "odds: no worse", "")
EVIDENCE_WIDTHS = (8, 11, 20, 20, 14, 16, 10)
_MOST_ODDS = 6.0  # a power of ten: nobody needs to know more


class Story:
    """Tells the demo on standard output."""

    def __init__(self) -> None:
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        render.line()
        render.line(Text(f"{self._chapter}. {title}", "bold"))

    def say(self, sentence: str) -> None:
        render.line(f"   {sentence}")

    @contextmanager
    def stages(self, what: str) -> Iterator[Callable[[str, str], None]]:
        """Tell what a child process is doing: one line that changes on a terminal, a line a stage elsewhere."""
        screen = render.console()
        if not screen.is_terminal:
            yield lambda stage, detail: self.say(f"{what}: {stage} {detail}".rstrip())
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=screen, transient=True) as bar:
            task = bar.add_task(f"  {what}")
            yield lambda stage, detail: bar.update(task, description=f"  {what}: {stage} {detail}".rstrip())

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that fills up to `total`; silent without a terminal, where the result is a line anyway."""
        screen = render.console()
        if not screen.is_terminal:
            yield lambda _count: None
            return
        columns = (TextColumn("   {task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=screen, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.update(task, completed=count)

    def shares_heading(self, live: int, candidate: int) -> None:
        cells = (column.format(live=live, candidate=candidate) for column in COLUMNS)
        render.line(Text("   " + _row(cells), "dim"))

    def shares(self, asked: float, step: Tally, so_far: Tally, live: int, candidate: int) -> None:
        """One step of moving traffic; accuracy counts everything so far, because a step alone is too few images."""
        cells = (
            render.share(asked),
            render.share(step.share(candidate)),
            str(len(step)),
            _right(so_far, live),
            _right(so_far, candidate),
            render.duration(step.latency(0.5)),
            render.duration(step.latency(0.99)),
            str(len(step.failures)),
        )
        render.line("   " + _row(cells))

    def evidence_heading(self, live: int, candidate: int) -> None:
        cells = (column.format(live=live, candidate=candidate) for column in EVIDENCE)
        render.line(Text("   " + _row(cells, EVIDENCE_WIDTHS), "dim"))

    def evidence(self, rollout: RolloutState) -> None:
        """Where a rollout by evidence is, and what is known about failures."""
        seen = rollout["evidence"]
        errors = next((g for g in seen["guardrails"] if g["watched"] == "errors"), None) if seen else None
        if seen is None or errors is None or not errors["live"]["units"]:
            return  # nobody has looked yet
        cells = (
            render.share(seen["weight"]),
            f"{seen['dwelt']:.0f} of {seen['dwell']:.0f} s",
            *_failed(errors),
            _odds(errors["harm"]),
            _odds(errors["safe"]),
            "" if rollout["state"] in ("canary", "baking") else rollout["state"],
        )
        render.line("   " + _row(cells, EVIDENCE_WIDTHS))


def _failed(errors: GuardrailEvidence) -> Iterator[str]:
    return (f"{arm['bad']} of {arm['units']:,}" for arm in (errors["live"], errors["candidate"]))


def _odds(power: float | None) -> str:
    if power is None:
        return "-"
    return (
        f"over {10**_MOST_ODDS:,.0f}"
        if power > _MOST_ODDS
        else f"{10**power:,.0f}"
        if power >= 1
        else f"{10**power:.1f}"
    )


def _right(tally: Tally, version: int) -> str:
    accuracy = tally.accuracy(version)
    return "-" if accuracy is None else f"{accuracy:.1f} % right"


def _row(cells: Iterable[str], widths: tuple[int, ...] = WIDTHS) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
