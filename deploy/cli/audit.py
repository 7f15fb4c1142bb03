"""`teal audit verify`: checks the record of a home and decides again what was decided. Needs no gateway."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from contracts.errors import InvalidInput, NotFound
from deploy.cli import connect, failures, render
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, OptionalModel

app = typer.Typer(help="Check the record of who and what moved traffic.", no_args_is_help=True)

HASH_LETTERS = 64


@app.callback()
def audit() -> None:
    """Keeps `verify` a command of its own although it is the only one."""


@app.command()
def verify(
    model: OptionalModel = None,
    *,
    head: Annotated[
        str | None,
        typer.Option(metavar="SEQ:HASH", help="What an earlier check said of its latest event, noted elsewhere."),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> int:
    """Check that nothing of the history was changed or removed, and decide again what was decided automatically.

    The chain is checked as a whole; with NAME only that model's decisions are made again. Exit code 1 when anything is
    not as it was recorded."""
    noted = None if head is None else _noted(head)
    if not home.is_dir():
        raise NotFound(f"there is no home at {home}, so there is nothing to check")
    with connect.home(connect.Target(home)) as local, render.busy("checking", quiet=as_json):
        found = local.audit(model, noted)
    render.answer(found, as_json, _words)
    return failures.OK if found["ok"] else failures.FAILED


def _noted(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != HASH_LETTERS or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInput(f"--head: expected SEQ:HASH as `teal audit verify` prints it, got {text[:100]!r}")
    return int(seq), digest


def _words(found: Mapping[str, Any]) -> Iterable[RenderableType]:
    if found["decisions"]:
        yield render.table(
            ["event", "when", "model", "did", "revision", "observations", "why"],
            [
                [str(d["seq"]), render.when(d["at"]), d["model"], d["action"], _moved(d),
                 str(d["observations"]), d["reason"]]
                for d in found["decisions"]
            ],
        )  # fmt: skip
        yield ""
    for each in found["wrong"]:
        yield Text(f"WRONG {_of(each)}: {each['what']}", "bold red")
    for each in found["other_rules"]:
        yield f"{_of(each)} was decided by another release or machine; here it comes out otherwise: {each['what']}"
    for gone in found["pruned"]:
        yield f"event {gone['seq']} ({gone['model']}): the {gone['observations']} observations before it are pruned"
    if found["anchored"]:
        yield f"{found['anchored']} changes are older than the chain and were taken into it as they were found"
    yield (
        f"{found['events']} events, {'the chain is unbroken' if found['ok'] else 'not as they were recorded'}; "
        f"automatic decisions made again: {len(found['decisions'])}, from observations: {found['observations']}"
    )
    yield f"head {found['head']['seq']}:{found['head']['hash']}"


def _moved(decision: Mapping[str, Any]) -> str:
    return f"{decision['before']['revision']} to {decision['after']['revision']}"


def _of(found: Mapping[str, Any]) -> str:
    what = "the deployment" if found["seq"] is None else f"event {found['seq']}"
    return f"{what} ({found['model']})" if found["model"] else what
