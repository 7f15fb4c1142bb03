"""The pieces of a Grafana dashboard as plain dictionaries: queries, panels, variables, and rows that place them.

Knows Grafana's JSON (schema 39, Grafana 10 and later) and nothing of Teal.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

Json = dict[str, Any]

WIDTH = 24  # of a dashboard, in Grafana's grid
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """`legend` names the series, with {{label}} in it; `instant` asks for now only."""

    expr: str
    legend: str = ""
    instant: bool = False


def time_series(
    title: str, description: str, unit: str, queries: Sequence[Query], *, bars: bool = False, **defaults: Any
) -> Json:
    """Lines over time; `defaults` are Grafana's own field settings, such as min and max."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 60 if bars else 0, "showPoints": "never", "spanNulls": False}
    if bars:
        custom |= {"drawStyle": "bars", "stacking": {"mode": "normal", "group": "A"}}
    panel = _panel("timeseries", title, description, unit, queries, **defaults)
    panel["fieldConfig"]["defaults"]["custom"] = custom
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def stat(title: str, description: str, unit: str, queries: Sequence[Query], **defaults: Any) -> Json:
    """Big numbers, one per series."""
    panel = _panel("stat", title, description, unit, queries, **defaults)
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "textMode": "value_and_name",
        "colorMode": "none",
        "graphMode": "none",
    }
    return panel


def bar_gauge(title: str, description: str, unit: str, queries: Sequence[Query], **defaults: Any) -> Json:
    """One bar per series, as of now."""
    panel = _panel("bargauge", title, description, unit, queries, **defaults)
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
    }
    return panel


def state_timeline(title: str, description: str, query: Query, colors: Mapping[str, str]) -> Json:
    """One strip for each series while its value is 1; `colors` by name of the series."""
    panel = _panel("state-timeline", title, description, "short", [query])
    panel["fieldConfig"]["defaults"] |= {
        "mappings": [{"type": "value", "options": {"0": {"text": " ", "color": "transparent"}, "1": {"text": "yes"}}}],
        "color": {"mode": "fixed", "fixedColor": "blue"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    panel["fieldConfig"]["overrides"] = [
        _override(name, [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}])
        for name, color in colors.items()
    ]
    panel["options"] = {"showValue": "never", "mergeValues": True, "legend": {"showLegend": False}}
    return panel


def table(title: str, description: str, unit: str, query: Query, columns: Sequence[str]) -> Json:
    """The labels in `columns` and the value of every series, as of now."""
    panel = _panel("table", title, description, unit, [query])
    panel["targets"][0] |= {"format": "table", "instant": True, "range": False}
    panel["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": [*columns, "Value"]}}},
        {"id": "sortBy", "options": {"sort": [{"field": "Value", "desc": True}]}},
    ]
    return panel


def text(title: str, markdown: str) -> Json:
    return {"type": "text", "title": title, "options": {"mode": "markdown", "content": markdown}}


def dashed(panel: Json, pattern: str) -> Json:
    """The panel with the series whose names match drawn as dashed lines: limits, not measurements."""
    line = [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        {"id": "custom.lineWidth", "value": 2},
    ]
    config = panel["fieldConfig"]
    more = {"matcher": {"id": "byRegexp", "options": pattern}, "properties": line}
    return panel | {"fieldConfig": config | {"overrides": [*config["overrides"], more]}}


def with_lines(panel: Json, lines: Mapping[str, float]) -> Json:
    """The panel with a horizontal line per color, at a value."""
    config = panel["fieldConfig"]
    steps: list[Json] = [{"color": "transparent", "value": None}]
    steps += [{"color": color, "value": value} for color, value in sorted(lines.items(), key=lambda item: item[1])]
    defaults = config["defaults"] | {"thresholds": {"mode": "absolute", "steps": steps}}
    defaults["custom"] = defaults["custom"] | {"thresholdsStyle": {"mode": "dashed"}}
    return panel | {"fieldConfig": config | {"defaults": defaults}}


def source_variable() -> Json:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1}


def query_variable(name: str, label: str, query: str) -> Json:
    """Values as the data source finds them, again at every refresh."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def choice_variable(name: str, label: str, values: Sequence[str], chosen: str) -> Json:
    options = [{"text": value, "value": value, "selected": value == chosen} for value in values]
    current = {"text": chosen, "value": chosen}
    return {"type": "custom", "name": name, "label": label, "query": ",".join(values), "options": options,
            "current": current}  # fmt: skip


def text_variable(name: str, label: str, value: str) -> Json:
    current = {"text": value, "value": value}
    return {"type": "textbox", "name": name, "label": label, "query": value, "options": [current], "current": current}


def annotation(name: str, query: str, title: str, color: str) -> Json:
    """Marks where the query has values; with the value, in milliseconds, as the time of the mark."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": color,
        "expr": query,
        "titleFormat": title,
        "useValueForTime": True,
        "step": "15s",
    }


def link(title: str, url: str, tooltip: str) -> Json:
    fixed = {"icon": "external link", "targetBlank": True, "keepTime": False, "includeVars": False}
    return {"type": "link", "title": title, "url": url, "tooltip": tooltip, **fixed}


def placed(rows: Iterable[tuple[int, Sequence[Json]]]) -> list[Json]:
    """Rows of (height, panels) from top to bottom; the panels of a row share its width evenly."""
    panels: list[Json] = []
    top = 0
    for height, row in rows:
        width = WIDTH // len(row)
        for nth, panel in enumerate(row):
            place = {"x": nth * width, "y": top, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **panel})
        top += height
    return panels


def expressions(dashboard: Json) -> dict[str, list[str]]:
    """Every query of a dashboard by the title of its panel, or the name of its annotation."""
    asked = [(panel["title"], [t["expr"] for t in panel.get("targets", [])]) for panel in dashboard["panels"]]
    marked = [(mark["name"], [mark["expr"]]) for mark in dashboard["annotations"]["list"]]
    return {name: found for name, found in chain(asked, marked) if found}


def _panel(kind: str, title: str, description: str, unit: str, queries: Sequence[Query], **defaults: Any) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "targets": [_target(chr(ord("A") + nth), query) for nth, query in enumerate(queries)],
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
    }


def _target(ref: str, query: Query) -> Json:
    return {
        "refId": ref,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
    }


def _override(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}
