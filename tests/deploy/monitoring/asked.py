"""What the shipped dashboards and rules ask of Prometheus, as a test can ask it: with the variables filled in."""

import re
from typing import Any

from contracts.metrics import CONTROL_METRICS, ROLLOUT_METRICS, WORKER_METRICS, Metric
from deploy.monitoring.cockpit import cockpit
from deploy.monitoring.panels import expressions
from tests.prometheus import rules

OURS: tuple[Metric, ...] = (*WORKER_METRICS, *CONTROL_METRICS, *ROLLOUT_METRICS)

ENVOY_LABELS = {"envoy_response_code_class"}


def dashboards() -> list[dict[str, Any]]:
    return [cockpit()]


def panel_queries(
    model: str = "m", *, slower: str = "100", interval: str = "1m", period: str = "1h"
) -> dict[str, list[str]]:
    """Every query of every dashboard by what asks it."""
    values = {"$model": model, "$slower": slower, "$__rate_interval": interval, "$__range": period}
    return {
        f"{dashboard['title']}: {name}": [_filled(query, values) for query in queries]
        for dashboard in dashboards()
        for name, queries in expressions(dashboard).items()
    }


def rule_queries() -> dict[str, list[str]]:
    """The expression of every rule by its name."""
    return {rule.get("alert") or rule["record"]: [rule["expr"]] for rule in rules()}


def exported_named(query: str) -> set[str]:
    """The series of Teal's and Envoy's processes that a query reads."""
    return {w for w in _words(query) if w.startswith(("teal_", "envoy_")) and w not in ENVOY_LABELS}


def recorded_named(query: str) -> set[str]:
    """The series that a query reads of those that rules record."""
    return {word for word in _words(query) if ":" in word}


def exported(metric: Metric) -> tuple[str, ...]:
    if metric.kind != "histogram":
        return (metric.name,)
    return tuple(f"{metric.name}_{part}" for part in ("bucket", "count", "sum"))


def _words(query: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r'"[^"]*"', "", query)))


def _filled(query: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        query = query.replace(name, value)
    return query
