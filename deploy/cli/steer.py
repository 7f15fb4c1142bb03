"""Commands for a candidate on its way: weight, promote, skip, extend, pause, resume, abort, rollback, undo.

Each asks the running gateway and shows the state it answered with, which Envoy has acknowledged by then.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.traffic import as_number, parse_percent
from deploy.answers import Status
from deploy.cli import connect, render, words
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Model, Override, Reason, Revision, Server
from deploy.rollout.plan_file import seconds

if TYPE_CHECKING:
    from deploy.client import Client  # brings httpx along


def weight(
    model: Model,
    percent: Annotated[str, typer.Argument(metavar="PERCENT", help="0 to 100 in steps of 0.01.", show_default=False)],
    *,
    override: Override = False,
    reason: Reason = None,
    revision: Revision = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Set the candidate's share of traffic by hand.

    A rollout by evidence is paused by it, and takes no more than its plan gives. Less is always taken."""
    share = as_number(parse_percent(percent))
    _ask(
        home,
        server,
        as_json,
        lambda up: up.weight(model, share, override=override, reason=reason, expected_revision=revision),
    )


def promote(
    model: Model,
    *,
    override: Override = False,
    reason: Reason = None,
    revision: Revision = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Make the candidate live with all traffic.

    The version it replaces stays warm for a day, so that going back is one step."""
    _ask(
        home,
        server,
        as_json,
        lambda up: up.promote(model, override=override, reason=reason, expected_revision=revision),
    )


def skip(
    model: Model,
    *,
    override: Override = False,
    reason: Reason = None,
    revision: Revision = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Go to the next step of the plan now.

    Whatever is left of this one is left out; what is needed for promotion is not."""
    _ask(home, server, as_json, lambda up: up.skip(model, override=override, reason=reason, expected_revision=revision))


def extend(
    model: Model,
    time: Annotated[
        str, typer.Argument(metavar="TIME", help="How much more: seconds, or 30m, 2h, 1d.", show_default=False)
    ],
    *,
    reason: Reason = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Give a rollout by evidence more time.

    One whose time was over goes on where it stood."""
    more = seconds(time)
    _ask(home, server, as_json, lambda up: up.extend(model, more, reason=reason))


def pause(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Hold a rollout by evidence where it is.

    It is rolled back for harm all the same. One that is moved by hand has nothing to hold, and says so."""
    _ask(home, server, as_json, lambda up: up.pause(model, reason=reason))


def resume(
    model: Model,
    *,
    override: Override = False,
    reason: Reason = None,
    revision: Revision = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused rollout go on.

    With --override also one that is held up because the versions answer differently, which may be meant."""
    _ask(
        home, server, as_json, lambda up: up.resume(model, override=override, reason=reason, expected_revision=revision)
    )


def abort(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Give the candidate up; the live version takes all."""
    _ask(home, server, as_json, lambda up: up.abort(model, reason=reason))


def rollback(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Go back to the version before, whatever the moment.

    While there is a candidate this is abort, after a promotion it is undo."""
    _ask(home, server, as_json, lambda up: up.rollback(model, reason=reason))


def undo(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Take the last promotion back while it can be.

    The version that was live before takes all traffic again; it has stayed warm."""
    _ask(home, server, as_json, lambda up: up.undo(model, reason=reason))


def _ask(home: Path, server: str | None, as_json: bool, command: "Callable[[Client], Status]") -> None:
    with connect.client(connect.Target(home, server)) as gateway:
        status = command(gateway)
    render.answer(status, as_json, words.after_move)
