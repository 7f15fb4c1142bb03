"""A real Prometheus with the shipped configuration watches a live gateway with one rollout under way and one rolled
back: every query of every panel and rule finds what it asks for."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.load import Load
from loadtests.openloop import load_in_thread
from tests.deploy.monitoring.asked import (
    OURS,
    exported,
    exported_named,
    panel_queries,
    recorded_named,
    rule_queries,
)
from tests.e2e import versions
from tests.e2e.gateway import Gateway, call, eventually, running
from tests.e2e.stage import PLAN
from tests.prometheus import Prometheus, needs_prometheus, prometheus, rules

pytestmark = [pytest.mark.e2e, needs_prometheus]

LASTING: Mapping[str, Any] = {**PLAN, "steps": [{"weight": "50 %", "dwell": "30m"}], "deadline": "2h"}
RATE, SECONDS = 40.0, 300.0  # the requests end with the tests, long before
EXPECTED = {"ModelErrorBudgetBurnsFast", "RolloutRolledBack"}  # alerts that have a reason to fire: one in twenty fails


@dataclass(frozen=True)
class Watched:
    """`climbing` is in the middle of its rollout, one in twenty of both its versions' answers fails; `falling` was
    rolled back."""

    gateway: Gateway
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(behaving: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    home = folder / "home"
    versions.register(home, behaving, {"climbing": ("failing", "failing_too"), "falling": ("healthy", "failing")})
    with ExitStack() as stack:
        gateway = stack.enter_context(running(home))
        prom = stack.enter_context(prometheus(folder, gateway.admin_port))
        for model in ("climbing", "falling"):
            gateway.order("deploy", model, version=1)
        stack.enter_context(load_in_thread(asking(gateway, "climbing", 1), asking(gateway, "falling", 4)))
        for model in ("climbing", "falling"):
            gateway.order("deploy", model, version=2, plan=LASTING)
        eventually("it is rolled back", lambda: gateway.status("falling")["rollout"]["state"] == "rolled_back", 60)
        yield Watched(gateway, prom)


def asking(gateway: Gateway, model: str, poisoned: int) -> Load:
    bodies = versions.bodies(poisoned)
    return Load(f"{gateway.url}/v1/models/{model}:predict", RATE, SECONDS, bodies=bodies, poisson=True)


def labelled(gateway: Gateway) -> None:
    """One answer turns out to have been right or wrong."""
    answer = gateway.predict(versions.bodies()[0], "/v1/models/climbing:predict")
    told = {"request_id": answer.headers["x-request-id"], "label": 1}
    heard = call(f"{gateway.admin}/api/v1/feedback", json.dumps(told).encode(), {"content-type": "application/json"})
    assert heard.status == 200, heard.body


PANELS = [(name, query) for name, queries in panel_queries("climbing", interval="10s").items() for query in queries]
RECORDED = [rule["record"] for rule in rules() if "record" in rule]


@pytest.mark.parametrize(("panel", "query"), PANELS, ids=[name for name, _ in PANELS])
def test_every_panel_shows_something(watched: Watched, panel: str, query: str) -> None:
    if panel.endswith("From answer to label"):
        labelled(watched.gateway)
        watched.prometheus.until("sum(teal_feedback_lag_seconds_count) > 0", bool)
        labelled(watched.gateway)
    watched.prometheus.until(query, bool)


@pytest.mark.parametrize("name", RECORDED)
def test_every_rule_records_something(watched: Watched, name: str) -> None:
    watched.prometheus.until(name, bool)


def test_every_series_that_a_panel_or_an_alert_reads_is_there(watched: Watched) -> None:
    watched.prometheus.until(RECORDED[-1], bool)
    there = watched.prometheus.names()
    for name, queries in {**panel_queries(), **rule_queries()}.items():
        for query in queries:
            assert exported_named(query) | recorded_named(query) <= there, name


def test_prometheus_evaluates_every_rule_without_an_error(watched: Watched) -> None:
    found = watched.prometheus.rules()
    assert {rule["name"] for rule in found} == set(rule_queries())
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] == "err"] == []


def test_every_series_of_the_contract_is_scraped_and_nothing_else_calls_itself_teal(watched: Watched) -> None:
    expected = {name for metric in OURS for name in exported(metric)}
    found = {name for name in watched.prometheus.names() if name.startswith("teal_")}
    # prometheus_client tells when it made a counter of its own
    assert {name for name in found if not name.endswith("_created")} == expected


def test_the_candidates_weight_is_what_callers_got(watched: Watched) -> None:
    weights = 'teal_rollout_weight_ratio{model="climbing",version="2"}'
    watched.prometheus.until(weights, lambda found: len(found) == 3 and all(0.3 < s.value < 0.7 for s in found))
    kinds = watched.prometheus.by(weights, "kind")
    assert set(kinds) == {("desired",), ("applied",), ("observed",)}
    assert kinds["applied",] == kinds["desired",] == 0.5


def test_who_was_rolled_back_is_said_and_nobody_is_woken_for_nothing(watched: Watched) -> None:
    firing = 'ALERTS{alertstate="firing"}'
    watched.prometheus.until(f"{firing} and on (alertname) ALERTS{{alertname='RolloutRolledBack'}}", bool)
    assert watched.prometheus.by('ALERTS{alertname="RolloutRolledBack"}', "model") == {("falling",): 1}
    assert {s.labels["alertname"] for s in watched.prometheus.query(firing)} <= EXPECTED
    (said,) = watched.prometheus.alerts("RolloutRolledBack")
    assert said["annotations"]["summary"].startswith("A candidate of falling was rolled back")
