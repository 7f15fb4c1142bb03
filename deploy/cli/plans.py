"""`teal plan`: what a plan says, whether it is one, and how long it would take. Deploying by one is operate.py."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from contracts.errors import InvalidInput
from contracts.traffic import TOTAL, percent
from deploy.answers import Forecast
from deploy.cli import connect, failures, render
from deploy.cli.options import DEFAULT_HOME, AsJson, Home, Server
from deploy.forecasts import forecast_view
from deploy.rollout.forecast import Live, forecast, said
from deploy.rollout.plan import DEFAULTS, Plan, Strategy
from deploy.rollout.plan_file import parse_plan, plan_to_json, plan_to_yaml

app = typer.Typer(name="plan", help="Read, check and write plans of rollouts by evidence.", rich_markup_mode=None)


@app.command("show")
def show(
    strategy: Annotated[Strategy, typer.Argument(metavar="STRATEGY", help="canary, bluegreen or shadow.")],
    as_json: AsJson = False,
) -> None:
    """Print a strategy's default plan as YAML.

    A plan of your own starts from here. What a file leaves out keeps these values."""
    plan = DEFAULTS.get(strategy)
    if plan is None:
        raise InvalidInput(f"strategy {strategy} needs no plan; plans are for {', '.join(DEFAULTS)}")
    render.answer(plan_to_json(plan), as_json, lambda _: [plan_to_yaml(plan).rstrip()])


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan, as YAML.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Ask with this model's traffic, measured now.", show_default=False),
    ] = None,
    *,
    requests: Annotated[
        float | None,
        typer.Option("--requests-per-second", metavar="N", min=0, help="Ask with so much traffic instead."),
    ] = None,
    failing: Annotated[
        float, typer.Option("--failing", metavar="SHARE", min=0, max=1, help="Share of it that fails today, 0 to 1.")
    ] = 0.0,
    home: Home = DEFAULT_HOME,
    server: Server = None,
    as_json: AsJson = False,
) -> int:
    """Say what a plan does and how long it would take.

    Exits with 2, and says what would help, when it cannot decide before its deadline."""
    plan = read(file)
    if requests is not None:
        live = Live(requests, failing)
        foreseen = forecast_view("", plan, live, forecast(plan, live))
    elif model is not None:
        busy = render.busy(f"{model}: measuring its traffic", quiet=as_json)
        with connect.client(connect.Target(home, server)) as gateway, busy:
            foreseen = gateway.forecast(model, plan_to_json(plan))
    else:
        render.answer(plan_to_json(plan), as_json, lambda _: _plan(plan))
        return failures.OK
    render.answer(foreseen, as_json, lambda seen: [*_plan(plan), *_forecast(seen)])
    if foreseen["problem"] is None:
        return failures.OK
    render.error(foreseen["problem"])
    return failures.USAGE


def read(file: Path) -> Plan:
    """The plan in a file. Raises InvalidInput with the line of the mistake."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; expected a plan as YAML") from error
    return parse_plan(text, file.name)


def _plan(plan: Plan) -> Iterable[RenderableType]:
    yield Text(f"{plan.strategy} plan", "bold")
    if plan.mirror:
        yield f"  copies {percent(plan.mirror)} of the requests to the candidate for {said(plan.mirror_for)}, unseen"
    for step in plan.steps:
        yield f"  {percent(step.weight)} for {said(step.dwell)} and {step.units} requests at least"
    if plan.steps:
        yield f"  {percent(TOTAL - plan.holdback)} for {said(plan.bake)}, then it is live"
    watched = ", ".join(f"{g.watched}{'' if g.required else ' (not needed)'}" for g in plan.guardrails)
    yield f"  watches {watched}"
    yield f"  takes {said(plan.shortest)} at least, and an operator decides after {said(plan.deadline)}"


def _forecast(seen: Forecast) -> Iterable[RenderableType]:
    how = "" if seen["measured"] is None else f", measured for {seen['measured']['seconds']:.0f} s"
    yield f"with {seen['requests_per_second']:.3g} requests a second, {100 * seen['failing']:.2g} % failing{how}:"
    yield f"  a candidate that is no worse: promoted {_in(seen['promote_seconds'])}"
    if seen["find"] and not seen["failing"]:
        yield "  nothing fails today: how soon one that fails is found depends on nothing but how much it fails"
        return
    for found in seen["find"]:
        exposed = "" if found["requests"] is None else f", having answered {found['requests']:,.0f} requests"
        yield f"  one that fails {found['risk']:g} times as often: found {_in(found['seconds'])}{exposed}"


def _in(seconds: float | None) -> str:
    return "never" if seconds is None else f"in about {said(seconds)}"
