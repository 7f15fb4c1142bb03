"""Puts answers on the terminal: one place that writes, with tables for people and JSON for programs.

Without a terminal nothing but plain text leaves: no colors, no control characters, and no line is folded, so that
output can be piped into other tools.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

PLAIN_WIDTH = 400  # columns when nobody looks: wide enough that no cell is folded


def console(*, stderr: bool = False) -> Console:
    """A console on today's standard streams (tests replace them), without colors when it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PLAIN_WIDTH,
        force_terminal=stream.isatty(),
        no_color=None if stream.isatty() else True,
        highlight=False,
        soft_wrap=False,
        emoji=False,
        markup=False,
    )


def line(text: str | Text = "") -> None:
    """One line as it is: never folded, so that what it holds can be copied."""
    console().print(text, soft_wrap=True)


def error(sentence: str) -> None:
    """Errors go to standard error, as one line."""
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), " ".join(sentence.split())), soft_wrap=True)


def note(sentence: str) -> None:
    """A remark beside the answer; standard error, so that standard output holds only the answer."""
    console(stderr=True).print(Text(sentence, "dim"), soft_wrap=True)


def show(renderable: RenderableType) -> None:
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as written:
        screen.print(renderable)
    # Tables pad their last column; nobody wants that in a pipe.
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in written.get().splitlines()))


def json_value(value: Any) -> None:
    """JSON on standard output; read back by any JSON parser, NaN as TensorFlow Serving writes it."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def answer(value: T, as_json: bool, human: Callable[[T], Iterable[RenderableType]]) -> None:
    """Show `value`: its JSON when asked for, else what `human` makes of it."""
    if as_json:
        json_value(value)
        return
    for part in human(value):
        if isinstance(part, str | Text):
            line(part)
        else:
            show(part)


@contextmanager
def busy(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Say on a terminal that something takes its time. Writes nothing anywhere else."""
    screen = console(stderr=True)
    if quiet or not screen.is_terminal:
        yield
        return
    with screen.status(what):
        yield


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table without frames: readable piped, copied and on a narrow terminal."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


class Fitting:
    """The first of several forms that fits into the terminal as it is, the last one when none does. Without a terminal
    the first: what is piped keeps its form, however long a line gets."""

    def __init__(self, *forms: RenderableType) -> None:
        self._forms = forms

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        if not screen.is_terminal:
            yield self._forms[0]
            return
        free = options.update(max_width=PLAIN_WIDTH)
        fits = (form for form in self._forms if screen.measure(form, options=free).maximum <= options.max_width)
        yield next(fits, self._forms[-1])


def place(color: str | None) -> Text:
    """The name of a place in its own color."""
    return Text("-") if color is None else Text(color, color if color in ("blue", "green") else "")


def share(percentage: float | None) -> str:
    """A percentage to the hundredth, as short as it can be: 25.0 → "25 %"."""
    return "-" if percentage is None else f"{round(percentage, 2):g} %"


def when(moment: str | float | None) -> str:
    """Wall-clock time in the reader's own zone; text that is no ISO time stays as it is."""
    if moment is None:
        return "-"
    if isinstance(moment, str):
        try:
            read = datetime.fromisoformat(moment)
        except ValueError:
            return moment
    else:
        read = datetime.fromtimestamp(moment, tz=UTC)
    return read.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """A time as a person says it: 0.0000021 → "2.1 µs"."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def digest(full: str) -> str:
    """As much of a digest as one needs to tell versions apart."""
    return full[:12]
