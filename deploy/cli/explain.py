"""`teal explain`: who answered a request, with what, and where that version comes from."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from deploy.answers import Explained, Explanation
from deploy.cli import connect, render, reports
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Server

ROWS_SHOWN = 8


def explain(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="The x-request-id of an answer.", show_default=False)
    ],
    *,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Which version answered a request, with what, and how that version was made.

    Each worker remembers its latest answers, so ask soon, and while the gateway runs."""
    with connect.client(connect.Target(home, server)) as gateway:
        render.answer(gateway.explain(request_id), as_json, _words)


def _words(seen: Explanation) -> Iterable[RenderableType]:
    for answer in seen["answers"]:
        yield Text(f"{answer['model']} version {answer['version']}", "bold") + Text.assemble(
            ", ", render.place(answer["color"]), f", {_role(answer)}"
        )
        yield f"  answered: {render.when(answer['at'])}, worker {answer['worker']}" + (
            "; a mirrored copy, nobody got this answer" if answer["mirrored"] else ""
        )
        yield f"  predicted: {_predicted(answer)}"
        if answer["digest"] is None:
            yield "  the registry does not know this version any more"
            continue
        yield f"  registered: {render.when(answer['registered_at'])} from {answer['source']}"
        yield f"  digest: {answer['digest']}, plan {answer['plan']}"
        yield from reports.lineage(answer["lineage"]) if answer["lineage"] else ["  nothing is known of its training"]
    if seen["silent"]:
        yield f"could not be asked: {', '.join(seen['silent'])}"


def _role(answer: Explained) -> str:
    then, now = answer["role"], answer["role_now"] or "not deployed any more"
    return f"{now} now" if then is None else then if then == now else f"{then} then, {now} now"


def _predicted(answer: Explained) -> str:
    """The first rows; what is known when that is not."""
    rows = f"{answer['rows']} row{'' if answer['rows'] == 1 else 's'}"
    if answer["kind"] is None:
        return f"{rows}; the outputs are no class, score or text, or were too big to be remembered"
    shown = ["no number" if value is None else str(value) for value in answer["predicted"][:ROWS_SHOWN]]
    more = ", …" if len(answer["predicted"]) > ROWS_SHOWN else ""
    return f"{answer['kind']} {', '.join(shown)}{more}" + (f" ({rows})" if answer["rows"] > 1 else "")
