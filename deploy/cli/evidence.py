"""A rollout by evidence in words: where it is in its plan, how long it takes, what speaks for and against it. Pure.

States and stages are the words of the API: their enums would bring more along than a command line should load.
"""

from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.text import Text

from deploy.answers import Evidence, GuardrailEvidence
from deploy.cli import render
from deploy.rollout.forecast import said

_FRESH = 10.0  # seconds; younger evidence is nothing to speak of
_LOWEST, _HIGHEST = 0.05, 20.0  # relative risks beyond are shown as these

WAYS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "paused": (("go on", "resume {}"), ("give it up", "rollback {}")),
    "inconclusive": (
        ("more time", "extend {} 1h"),
        ("promote it all the same", "promote {} --override"),
        ("give it up", "rollback {}"),
    ),
    "hold": (("go on if that is meant", "resume {} --override"), ("give it up", "rollback {}")),
    "blind": (("give it up", "rollback {}"),),
}
"""What an operator can do where a rollout does not go on by itself."""


def evidence(state: str, seen: Evidence) -> Iterable[RenderableType]:
    """Where it is and how long it takes, then each guardrail beside its thresholds and in counts."""
    moving = state not in WAYS
    expected = f"; decided in about {said(seen['eta'])} if it is no worse" if moving and seen["eta"] is not None else ""
    yield f"  {_where(seen)}{expected}"
    yield Text(f"  {_when(seen, unknown=moving and not expected)}", "dim")
    rows: list[tuple[str | Text, ...]] = [
        (f"  {g['watched']}", _harm(g), _safe(g), _risk(g)) for g in seen["guardrails"]
    ]
    headings = ["  evidence", "worse", "no worse", "times as often"]
    yield render.Fitting(render.table(headings, rows), render.table(headings[:3], (row[:3] for row in rows)))
    yield Text("  odds that it is worse, and no worse; the second number settles it", "dim")
    for guardrail in seen["guardrails"]:
        if guardrail["said"]:
            yield Text(f"  {guardrail['watched']}: {guardrail['said']}", "dim")


def ways(model: str, state: str) -> Iterable[RenderableType]:
    """The commands that fit this state."""
    offered = WAYS.get(state, ())
    width = max((len(what) for what, _ in offered), default=0) + 1
    yield from (f"  {what + ':':{width}}  teal {command.format(model)}" for what, command in offered)


def _where(seen: Evidence) -> str:
    share, time = render.share(seen["weight"]), f"{said(seen['dwelt'])} of {said(seen['dwell'])}"
    if seen["stage"] == "shadow":
        return f"answers copies of requests, for nobody: {time}"
    if seen["stage"] == "baking":
        return f"baking at {share}: {time}"
    few = seen["units"] < seen["units_needed"]
    counted = f", {seen['units']:,} of {seen['units_needed']:,} requests" if few else ""
    return f"step {seen['step']} of {seen['steps']} at {share}: {time}{counted}"


def _when(seen: Evidence, *, unknown: bool) -> str:
    length = "; how long it takes is not known yet" if unknown else ""
    found = "" if seen["twice"] is None else f"; one that fails twice as often is found in about {said(seen['twice'])}"
    stale = f"; newest evidence {said(seen['unseen'])} old" if seen["unseen"] >= _FRESH else ""
    return f"begun {said(seen['age'])} ago, an operator decides after {said(seen['deadline'])}{length}{found}{stale}"


def _harm(g: GuardrailEvidence) -> Text:
    """As odds: how many times likelier the counts are if it is worse, and at how many the plan acts."""
    suspicious = g["harm"] >= 0.477  # three to one: from here on nothing advances
    style = "bold red" if g["harm"] >= g["harm_threshold"] else "yellow" if suspicious else ""
    return Text(f"{_odds(g['harm'])} of {_odds(g['harm_threshold'])}", style)


def _safe(g: GuardrailEvidence) -> Text:
    if g["safe"] is None:
        return Text("-", "dim")
    if not g["required"]:
        return Text("not needed", "dim")
    shown = g["safe"] >= g["safe_threshold"]
    return Text(f"{_odds(g['safe'])} of {_odds(g['safe_threshold'])}", "green" if shown else "")


def _odds(power: float) -> str:
    if power >= 6:
        return f"10^{power:.0f}"
    odds = 10.0**power
    return "<0.1" if odds < 0.1 else f"{odds:,.0f}" if odds >= 10 else f"{odds:.1f}"


def _risk(g: GuardrailEvidence) -> str:
    risk = g["risk"]
    if risk is None:
        return "-"
    return f"{_times(risk['estimate'])} ({_times(risk['lower'])} to {_times(risk['upper'])})"


def _times(risk: float) -> str:
    if risk <= _LOWEST:
        return f"<{_LOWEST:g}"
    return f">{_HIGHEST:g}" if risk >= _HIGHEST else f"{risk:.2g}"
