"""Commands about versions: register, models, history, delete. They work with and without a running gateway."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from contracts.names import check_version
from contracts.package import Manifest, manifest_from_json
from deploy.answers import Versions
from deploy.cli import connect, render, reports
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Model, OptionalModel, Server
from deploy.registry.asked import Asked


def register(
    model: Model,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="SavedModel or MLflow model directory, .keras or .tflite file, on this machine or at s3://, gs://, "
            "az://; or models:/NAME/3, models:/NAME@ALIAS, runs:/ID/PATH of MLflow.",
            show_default=False,
        ),
    ],
    *,
    samples: Annotated[
        Path | None, typer.Option(metavar="F", help=".npz or JSON with real inputs to check and time the model with.")
    ] = None,
    lineage: Annotated[
        Path | None, typer.Option(metavar="F", help="JSON: training_run, dataset, dataset_digest, parameters, ...")
    ] = None,
    preprocessing: Annotated[
        Path | None,
        typer.Option(metavar="F", help="JSON: how a JPEG or PNG becomes the input; see docs/images.md."),
    ] = None,
    reduced_precision: Annotated[
        bool,
        typer.Option(
            "--allow-reduced-precision",
            help="Also try 8- and 16-bit plans; one serves when it is faster and close enough.",
        ),
    ] = False,
    mlflow_uri: Annotated[
        str | None,
        typer.Option("--mlflow-uri", metavar="URI", help="MLflow server; else MLFLOW_TRACKING_URI says which."),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Fetch, check, convert and time a model; keep it as a version.

    Needs no gateway. The next number of NAME is given once everything is verified and safely on the disk."""
    asked = Asked(source, samples, lineage, preprocessing, reduced_precision, mlflow_uri)
    with connect.home(connect.Target(home)) as local, _progress(quiet=as_json) as tell:
        made, manifest = local.register(model, asked, progress=tell)
    render.answer(made, as_json, lambda version: reports.registered(version, manifest))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, str], None]]:
    """What prepare is doing: one line that changes on a terminal, a line for each stage elsewhere."""
    screen = render.console(stderr=True)
    if quiet:
        yield lambda _stage, _detail: None
    elif not screen.is_terminal:
        yield _once_a_stage()
    else:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=screen, transient=True) as bar:
            task = bar.add_task("starting")
            yield lambda stage, detail: bar.update(task, description=f"{stage}: {detail}" if detail else stage)


def _once_a_stage() -> Callable[[str, str], None]:
    """A log wants to know that fetching began, not how much of it is done."""
    begun: set[str] = set()

    def tell(stage: str, detail: str) -> None:
        if stage not in begun:
            begun.add(stage)
            render.line(f"{stage}: {detail}" if detail else stage)

    return tell


def models(
    model: OptionalModel = None,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The whole report of one version.", show_default=False)
    ] = None,
    *,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List models, or what is known about one.

    With NAME its versions with digest, plan, speed, lineage and role; with VERSION the whole report."""
    with connect.reader(connect.Target(home, server)) as source:
        if model is None:
            render.answer(source.models(), as_json, reports.models)
        elif version is None:
            seen = source.versions(model)
            manifests = {} if as_json else _manifests(source, seen)
            render.answer(seen, as_json, lambda found: reports.versions(found, manifests))
        else:
            one = source.version(model, check_version(version))
            render.answer(one, as_json, lambda found: reports.version(found, manifest_from_json(found["manifest"])))


def _manifests(source: "connect.Reader", seen: Versions) -> dict[int, Manifest]:
    found = (source.version(seen["model"], v["version"]) for v in seen["versions"])
    return {v["version"]: manifest_from_json(v["manifest"]) for v in found}


def history(
    model: Model,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the latest events.")] = 50,
    *,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Who did what, when and why; the latest first."""
    with connect.reader(connect.Target(home, server)) as source:
        render.answer(source.history(model, limit), as_json, reports.history)


def delete(
    model: Model,
    version: Annotated[int, typer.Argument(metavar="VERSION", show_default=False, help="A version not deployed.")],
    *,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Forget a version and remove its package.

    Refused while it is deployed."""
    check_version(version)
    with connect.reader(connect.Target(home, server)) as source:
        gone = source.delete(model, version)
    render.answer(gone, as_json, lambda _: [f"{model} version {version} is deleted"])
