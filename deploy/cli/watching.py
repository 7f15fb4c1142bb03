"""`teal status --watch`: the same picture again every second, until Ctrl-C. A gateway that goes away and comes back
is shown as such; it does not end the watch."""

import time

from rich.console import Group
from rich.live import Live
from rich.text import Text

from contracts.errors import TealError
from deploy.answers import Overview
from deploy.cli import connect, render, words

WATCH_SECONDS = 1.0


def watch(target: connect.Target, model: str | None, as_json: bool) -> None:
    """Redraw in place on a terminal; elsewhere write a new state each time it differs from the last one.

    The first look raises like any command would: a watch on a mistyped name should not wait for ever."""
    first = look(target, model)
    screen = render.console()
    try:
        if as_json or not screen.is_terminal:
            _log(target, model, first, as_json)
        else:
            _redraw(target, model, first)
    except KeyboardInterrupt:
        return  # the way one ends a watch


def look(target: connect.Target, model: str | None) -> Overview:
    """The overview, or the part of it that is about one model."""
    with connect.reader(target) as source:
        seen = source.overview()
        if model is None:
            return seen
        return {"gateway": seen["gateway"], "models": [source.status(model)]}


def _redraw(target: connect.Target, model: str | None, first: Overview) -> None:
    with Live(words.page(first), console=render.console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(_frame(target, model), refresh=True)


def _frame(target: connect.Target, model: str | None) -> Group:
    try:
        return words.page(look(target, model))
    except TealError as error:
        return Group(Text(error.message, "red"))


def _log(target: connect.Target, model: str | None, first: Overview, as_json: bool) -> None:
    shown: Overview | None = None
    seen: Overview | None = first
    while True:
        if seen is not None and seen != shown:
            if as_json:
                render.json_value(seen if model is None else seen["models"][0])
            else:
                render.answer(seen, False, words.overview)
            shown = seen
        time.sleep(WATCH_SECONDS)
        try:
            seen = look(target, model)
        except TealError as error:
            render.note(error.message)
            seen = None
