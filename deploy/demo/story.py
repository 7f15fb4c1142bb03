"""How the demo speaks: numbered chapters, progress bars on a terminal and plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.cli import render
from deploy.demo.tally import Tally

COLUMNS = ("share asked", "observed", "answers", "version {live}", "version {candidate}", "median", "p99", "failed")
WIDTHS = (13, 10, 9, 20, 20, 9, 9, 6)


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


def _right(tally: Tally, version: int) -> str:
    accuracy = tally.accuracy(version)
    return "-" if accuracy is None else f"{accuracy:.1f} % right"


def _row(cells: "Iterator[str] | tuple[str, ...]") -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
