"""The commands at both ends of a version's life, deploy and drain, and status. Those in between are steer.py.

Each asks the running gateway and shows the state it answered with, which Envoy has acknowledged by then.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import DeadlineExceeded
from deploy.answers import Place, Status
from deploy.cli import connect, plans, render, watching, words
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Model, OptionalModel, Reason, Revision, Server
from deploy.rollout.plan import Strategy
from deploy.rollout.plan_file import plan_to_json

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
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="How it is rolled out on evidence; start from: teal plan show canary."),
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
    retry: Annotated[
        bool, typer.Option("--retry", help="By evidence also a version that evidence rolled back before.")
    ] = False,
    supersede: Annotated[
        bool, typer.Option("--supersede", help="Give up the candidate that is there for this version.")
    ] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Also a version whose signature does not fit the live one's.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return only when every replica is ready, not the first.")
    ] = False,
    reason: Reason = None,
    revision: Revision = None,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Start a version: the first goes live, a later one is tried.

    A later one becomes the candidate and is rolled out by its strategy: on evidence unless you say otherwise."""
    steps = None if plan is None else plan_to_json(plans.read(plan))
    target = connect.Target(home, server)
    with connect.client(target) as gateway, render.busy(f"{model}: loading, warming up, routing", quiet=as_json):
        deployed = gateway.deploy(
            model,
            version,
            strategy=strategy,
            plan=steps,
            replicas=replicas,
            threads=threads,
            retry=retry,
            supersede=supersede,
            override=override,
            reason=reason,
            expected_revision=revision,
        )
        warning, status = deployed["warning"], deployed
        deadline = time.monotonic() + WAIT_SECONDS
        while wait and not _all_ready(status):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{model}: not every replica is ready after {WAIT_SECONDS:g} s; look at: teal status {model}"
                )
            time.sleep(WAIT_POLL_SECONDS)
            status = {**gateway.status(model), "warning": warning}
    render.answer(status, as_json, words.after_deploy)


def _all_ready(status: Status) -> bool:
    places: list[Place | None] = [status["live"], status["candidate"]]
    return all(p is None or p["ready"] >= p["replicas"] for p in places)


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
