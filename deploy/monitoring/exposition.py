"""Readings as Prometheus' text. Pure.

Prometheus' own client would do, and did: of a thousand models in rollout, 120,000 lines, it made 1.3 s of work for each
scrape, beside the tick that decides about them. Written out it is 0.7 s, most of it the evidence itself.
"""

import math
from collections.abc import Iterable

from contracts.metrics import Metric
from deploy.monitoring.readings import Reading


def text(found: Iterable[Reading]) -> str:
    """Text format 0.0.4, the samples of each metric together as it wants them."""
    metrics: dict[Metric, list[str]] = {}
    for metric, labels, value, part in found:
        lines = metrics.setdefault(metric, [])
        names = (*metric.labels, "le") if part == "_bucket" else metric.labels
        said = ",".join([f'{name}="{label}"' for name, label in zip(names, map(_escaped, labels), strict=True)])
        lines.append(
            f"{metric.name}{part}{{{said}}} {_number(value)}" if said else f"{metric.name}{part} {_number(value)}"
        )
    return "".join(
        f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.kind}\n" + "\n".join(lines) + "\n"
        for m, lines in metrics.items()
    )


def _escaped(label: str) -> str:
    if "\\" in label or '"' in label or "\n" in label:
        return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return label


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
