"""The shipped dashboards are what the code makes, ask only for what exists, and can be read by a person."""

import itertools
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from contracts.metrics import LATENCY_SECONDS
from deploy.http.app import application
from deploy.http.facts import Parts
from deploy.monitoring.__main__ import HERE, pages
from deploy.monitoring.cockpit import operation
from router.bootstrap import EnvoyConfig, render
from tests.deploy.monitoring.asked import (
    OURS,
    dashboards,
    exported,
    exported_named,
    panel_queries,
    recorded_named,
    rule_queries,
)
from tests.deploy.monitoring.test_prometheus import needs_promtool
from tests.prometheus import rules

each_dashboard = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda d: d["uid"])


@pytest.mark.parametrize("name", pages())
def test_a_committed_dashboard_is_what_the_code_makes(name: str) -> None:
    assert (HERE / name).read_text(encoding="utf-8") == pages()[name], f"{name} is out of date: run make docs"


@needs_promtool
def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    queries = [query for asked in panel_queries().values() for query in asked]
    recorded = [{"record": f"x:x:{nth}", "expr": query} for nth, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    found = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)  # noqa: S607
    assert found.returncode == 0, found.stderr


def test_every_metric_that_is_asked_for_stands_in_the_contract_or_is_recorded_by_a_rule() -> None:
    known = {name for metric in OURS for name in exported(metric)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for name, queries in {**panel_queries(), **rule_queries()}.items():
        for query in queries:
            assert {word for word in exported_named(query) if word.startswith("teal_")} <= known, name
            assert recorded_named(query) <= recorded, name


@each_dashboard
def test_every_panel_has_a_unit_a_description_and_the_chosen_source(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] != "text":
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]


@each_dashboard
def test_panels_have_a_title_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)
    assert max(place["x"] + place["w"] for place in places) <= 24
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(titles) == len(set(titles))


def test_rates_over_time_follow_the_resolution_of_the_screen() -> None:
    for name, queries in panel_queries(interval="7m", period="9h").items():
        for query in queries:
            assert set(re.findall(r"\[(\w+)\]", query)) <= {"7m", "9h"}, name


def test_the_links_of_the_cockpit_open_commands_that_exist() -> None:
    spec = application(cast(Parts, SimpleNamespace(hosts=()))).openapi()
    known = {(o["operationId"], *o["tags"]) for methods in spec["paths"].values() for o in methods.values()}
    assert {(operation(verb), "command") for verb in ("pause", "abort", "promote")} <= known


def test_envoy_measures_latency_at_the_bounds_that_panels_and_plans_may_name(tmp_path: Path) -> None:
    document = render(EnvoyConfig("127.0.0.1", 8080, str(tmp_path / "a"), str(tmp_path / "x")))
    (setting,) = document["stats_config"]["histogram_bucket_settings"]
    assert setting["match"] == {"suffix": "rq_time"}
    assert setting["buckets"] == [round(seconds * 1000, 3) for seconds in LATENCY_SECONDS]


def test_grafana_is_told_of_every_dashboard_and_of_the_source() -> None:
    (provider,) = yaml.safe_load((HERE / "grafana/provisioning/dashboards/teal.yml").read_text())["providers"]
    folder = provider["options"]["path"].removeprefix("${TEAL_MONITORING}/")
    assert all(name.startswith(f"{folder}/") for name in pages())
    (source,) = yaml.safe_load((HERE / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
