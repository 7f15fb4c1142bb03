"""Writes the pages that must not drift from the code: docs/cli.md, docs/limits.md, docs/metrics.md.

`python -m deploy.cli.reference DIRECTORY` writes them; a test compares them with what stands in the repository.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

from contracts.limits import KIB, LIMITS, MIB, Limits
from contracts.metrics import CONTROL_METRICS, ROLLOUT_METRICS, WORKER_METRICS, Metric
from deploy.cli.main import app

HELP_COLUMNS = 100
GENERATED = "<!-- written by `make docs`; change the code instead -->"

# What each limit means to somebody who runs into it.
LIMIT_WORDS: Mapping[str, str] = {
    "json_body": "longest JSON body of a prediction; 413 beyond",
    "binary_body": "longest binary body of a prediction; 413 beyond",
    "image_body": "longest JPEG or PNG sent as it is; 413 beyond",
    "image_pixels": "largest picture, width times height as its header says; 400 beyond",
    "json_depth": "deepest nesting of a JSON body; 400 beyond",
    "tensor_rank": "most dimensions of a tensor; 400 beyond",
    "headers": "most headers of a request",
    "header_bytes": "longest headers of a request, all together",
    "header_seconds": "longest time a client may take to send its headers",
    "idle_seconds": "a connection that is silent this long is closed",
    "request_seconds": "deadline of a request that names none, and the longest one it may name; 504 beyond",
    "queue_rows": "most rows that wait for one worker; 503 with Retry-After beyond",
    "queue_bytes": "most bytes that wait for one worker; 503 with Retry-After beyond",
    "queue_seconds": "longest time a request waits for its turn; 503 with Retry-After beyond",
    "quarantine_seconds": "how long an input is refused that ended its model's process; 422 meanwhile",
    "trials": "most requests that wait to be computed in a process of their own; 503 with Retry-After beyond",
    "answers_kept": "answers a worker remembers for feedback and `teal explain`; the oldest are forgotten",
    "answer_bytes": "an answer with bigger outputs is remembered without what it said",
    "answers_bytes": "outputs of more than 256 bytes that a worker remembers, all together; the oldest are forgotten",
    "connect_seconds": "longest time the gateway tries to reach a worker",
}


def cli_page() -> str:
    """Every command with its help, in the order of `teal --help`."""
    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"expected a group of commands, got {type(group).__name__}")
    parts = ["# The command line", GENERATED, _block(_help(["--help"]))]
    for name, command in group.commands.items():
        parts += [f"## teal {name}", _block(_help([name, "--help"]))]
        for below in command.commands if isinstance(command, TyperGroup) else ():
            parts += [f"### teal {name} {below}", _block(_help([name, below, "--help"]))]
    return "\n\n".join(parts) + "\n"


def limits_page() -> str:
    """Every limit with its shipped value."""
    rows = ((f"`{f.name}`", _amount(f.name), LIMIT_WORDS[f.name]) for f in fields(Limits))
    intro = "What Teal refuses, and when. One table (`contracts/limits.py`) is used by the worker and by Envoy."
    return "\n\n".join(["# Limits", GENERATED, intro, _table(("limit", "value", "meaning"), rows)]) + "\n"


def metrics_page() -> str:
    """Every series the processes of a gateway export by themselves."""
    intro = (
        "Prefix `teal_`, base units. Failures are inside the latency histogram. Envoy exports its own series beside "
        "these, with the same labels `model`, `version` and `color`."
    )
    parts = ["# Metrics", GENERATED, intro]
    kinds = (
        ("Worker", WORKER_METRICS),
        ("Control plane", CONTROL_METRICS),
        ("A rollout by evidence, while it is under way", ROLLOUT_METRICS),
    )
    for heading, metrics in kinds:
        parts += [f"## {heading}", _table(("metric", "kind", "labels", "meaning"), map(_metric_row, metrics))]
    return "\n\n".join(parts) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {"cli.md": cli_page, "limits.md": limits_page, "metrics.md": metrics_page}


def _help(words: list[str]) -> str:
    """What `teal WORDS` prints, at a width of its own: the page must not depend on somebody's terminal."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        get_command(app)(
            words, prog_name="teal", standalone_mode=False, terminal_width=HELP_COLUMNS, max_content_width=HELP_COLUMNS
        )
    return written.getvalue()


def _metric_row(metric: Metric) -> tuple[str, str, str, str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"`{metric.name}`", metric.kind, labels, metric.help


def _amount(name: str) -> str:
    value = getattr(LIMITS, name)
    if name.endswith("_seconds"):
        return f"{value:g} s"
    if name.endswith(("_bytes", "_body")):
        return f"{value // MIB} MiB" if value >= MIB else f"{value // KIB} KiB"
    return str(value)


def _block(text: str) -> str:
    return f"```\n{text.strip()}\n```"


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0] if arguments else "docs")
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
