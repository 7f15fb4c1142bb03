"""The rollout cockpit: one model's two versions side by side, and the evidence that decides between them.

What each panel shows is rollout_panels.py; here is where it stands, what one can choose, and where the links lead.
"""

from collections.abc import Sequence

from contracts import metrics
from contracts.metrics import LATENCY_SECONDS
from deploy.monitoring import rollout_panels as show
from deploy.monitoring.panels import (
    Json,
    annotation,
    choice_variable,
    link,
    placed,
    query_variable,
    source_variable,
    text_variable,
)
from deploy.monitoring.rollout_panels import own

FILE = "grafana/dashboards/rollout_cockpit.json"


def cockpit() -> Json:
    """The dashboard as Grafana loads it."""
    return {
        "uid": "teal-rollout-cockpit",
        "title": "Teal: rollout cockpit",
        "tags": ["teal"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": _variables()},
        "annotations": {"list": [_transitions()]},
        "links": _links(),
        "panels": placed(_rows()),
    }


def _rows() -> Sequence[tuple[int, Sequence[Json]]]:
    return (
        (7, (show.state(), show.weights())),
        (4, (show.progress(), show.eta(), show.revision())),
        (9, (show.harm(), show.safety())),
        (9, (show.risk(), show.errors())),
        (9, (show.quantiles(), show.slower())),
        (9, (show.requests(), show.hidden())),
        (8, (show.batch_rows(), show.queue(), show.compute())),
        (10, (show.predictions(), show.divergence())),
        (8, (show.labels(), show.lag())),
        (8, (show.gaps(), show.decisions(), show.commands())),
    )


def _variables() -> list[Json]:
    bounds = [f"{seconds * 1000:g}" for seconds in LATENCY_SECONDS]
    return [
        source_variable(),
        query_variable("model", "Model", f"label_values({metrics.ROLLOUT_STATE.name}, model)"),
        choice_variable("slower", "Slower than (ms)", bounds, "100"),
        text_variable("operating", "Operating port", "http://127.0.0.1:8090"),
    ]


def _transitions() -> Json:
    """Each moment at which a state was entered, and which."""
    entered = f"(max by (model, state) ({own(metrics.ROLLOUT_STATE)}) == 1)"
    at = f"(1000 * max by (model) ({own(metrics.ROLLOUT_STATE_ENTERED)}))"  # Grafana wants milliseconds
    return annotation("State transitions", f"{entered} * on (model) group_left () {at}", "{{state}}", "blue")


def _links() -> list[Json]:
    """To the operating API, which asks before it acts."""
    asks = {
        "Pause": ("pause", "Freeze the weights; a rollback for harm stays armed"),
        "Abort": ("abort", "Give the candidate up; never refused"),
        "Promote": ("promote", "Make the candidate live"),
    }
    commands = [link(title, f"$operating/docs#/command/{operation(verb)}", tip) for title, (verb, tip) in asks.items()]
    return [*commands, link("History", "$operating/api/v1/models/$model/history?limit=20", "Who did what, and why")]


def operation(verb: str) -> str:
    """The name of a command's page in the operating API's documentation."""
    return f"{verb}_api_v1_models__name__{verb}_post"
