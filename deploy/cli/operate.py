"""Commands that move traffic: deploy, weight, promote, abort, rollback, undo, pause, resume, drain; and status.

Each asks the running gateway and shows the state it answered with, which Envoy has acknowledged by then.
"""

import time
from typing import Annotated

import typer

from contracts.errors import DeadlineExceeded
from contracts.traffic import as_number, parse_percent
from deploy.answers import Place, Status
from deploy.cli import connect, render, watching, words
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Model, OptionalModel, Reason, Server
from deploy.rollout.plan import Strategy

WAIT_SECONDS = 600.0  # longest wait of `deploy --wait`
WAIT_POLL_SECONDS = 0.2


def deploy(
    model: Model,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The newest if left out.", show_default=False)
    ] = None,
    *,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            help="canary: in steps, on evidence (if left out); bluegreen: one switch, on evidence; shadow: compares "
            "mirrored answers, never serves; direct: switches once warm; manual: you move it.",
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Worker processes; as before, or as fits the machine, if left out.", show_default=False
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=0, max=1024, help="Threads inside one run; as before if left out, 0: as measured.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return only when every replica is ready, not the first.")
    ] = False,
    reason: Reason = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Start a version: the first goes live, a later one is tried.

    A later one becomes the candidate and is rolled out by its strategy: on evidence unless you say otherwise."""
    target = connect.Target(home, server)
    with connect.client(target) as gateway, render.busy(f"{model}: loading, warming up, routing", quiet=as_json):
        status = gateway.deploy(model, version, strategy=strategy, replicas=replicas, threads=threads, reason=reason)
        deadline = time.monotonic() + WAIT_SECONDS
        while wait and not _all_ready(status):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{model}: not every replica is ready after {WAIT_SECONDS:g} s; look at: teal status {model}"
                )
            time.sleep(WAIT_POLL_SECONDS)
            status = gateway.status(model)
    render.answer(status, as_json, words.after_deploy)


def _all_ready(status: Status) -> bool:
    places: list[Place | None] = [status["live"], status["candidate"]]
    return all(p is None or p["ready"] >= p["replicas"] for p in places)


def weight(
    model: Model,
    percent: Annotated[str, typer.Argument(metavar="PERCENT", help="0 to 100 in steps of 0.01.", show_default=False)],
    *,
    reason: Reason = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Set the candidate's share of traffic by hand."""
    units = parse_percent(percent)
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.weight(model, as_number(units), reason=reason)
    render.answer(status, as_json, words.after_move)


def promote(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Make the candidate live with all traffic.

    The version it replaces stays warm for a day, so that going back is one step."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.promote(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def abort(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Give the candidate up; the live version takes all."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.abort(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def rollback(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Go back to the version before, whatever the moment.

    While there is a candidate this is abort, after a promotion it is undo."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.rollback(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def undo(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Take the last promotion back while it can be.

    The version that was live before takes all traffic again; it has stayed warm."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.undo(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def pause(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Hold a rollout that moves by itself.

    Manual and direct ones do not move by themselves: for them this says so and changes nothing."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.pause(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def resume(
    model: Model, *, reason: Reason = None, home: Home = DEFAULT_HOME, server: Server = None, as_json: AsJson = False
) -> None:
    """Let a paused rollout go on.

    Manual and direct ones are never paused: for them this says so and changes nothing."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.resume(model, reason=reason)
    render.answer(status, as_json, words.after_move)


def drain(
    model: Model,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Only this version; the whole model if left out.")
    ] = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Stop serving a version or a whole model.

    What is under way is finished, then the workers end. The versions stay registered."""
    with connect.client(connect.Target(home, server)) as gateway:
        status = gateway.drain(model, version)
    render.answer(status, as_json, words.after_move)


def status(
    model: OptionalModel = None,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw every second until Ctrl-C.")] = False,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Who takes traffic, how much of it, and why.

    Live and candidate, weights asked for and applied, workers, and the reason for all of it."""
    target = connect.Target(home, server)
    if watch:
        watching.watch(target, model, as_json)
        return
    with connect.reader(target) as source:
        if model is None:
            render.answer(source.overview(), as_json, words.overview)
        else:
            render.answer(source.status(model), as_json, words.model_status)
