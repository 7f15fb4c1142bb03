"""What was measured is readable: every plan with its numbers, and plainly that precision was given up."""

from dataclasses import replace
from io import StringIO
from typing import cast

from rich.console import Console

from contracts.package import Lineage, Manifest, PlanReport
from deploy.answers import Version
from deploy.cli import reports

SEEN = cast(
    Version,
    {"model": "m", "version": 1, "digest": "ab" * 32, "plan": "litert-int8", "source": "/m", "seconds_per_row": 1e-6},
)
INT8 = PlanReport(
    "litert-int8",
    "chosen",
    "8-bit weights: close to TensorFlow",
    "plans/litert-int8/model.tflite",
    max_abs_error=0.012,
    argmax_flips=1,
    rows_checked=298,
    seconds_per_run={"1": 1e-6, "64": 2e-5},
    max_rel_error=0.0123,
    tolerance={"float32": (0.02, 0.05)},
    precision="8-bit weights",
    threads=1,
    seconds_by_threads={"1": {"1": 1e-6, "64": 2e-5}, "2": {"1": 3e-6, "64": 4e-5}},
)
SKIPPED = PlanReport("openvino", "skipped", "openvino is not installed (pip install 'teal[openvino]')")
COST = "reduced to 8-bit weights: off by up to 1.23% of the largest value, 1 argmax flips in 298 rows"


def manifest(*plans: PlanReport) -> Manifest:
    return Manifest("savedmodel", "0" * 64, plans[0].name, plans, (), (1, 64), None, (), Lineage(), "now", {})


def shown(found: Manifest) -> str:
    screen = Console(file=StringIO(), width=400, markup=False)
    for part in reports.version(SEEN, found):
        screen.print(part)
    return cast(StringIO, screen.file).getvalue()


def test_the_whole_report_has_every_plan_with_status_numbers_and_reason() -> None:
    text = shown(manifest(INT8, SKIPPED))
    assert "openvino, skipped: openvino is not installed (pip install 'teal[openvino]')" in text
    assert "allowed for float32: 0.02 of the output's largest value and 0.05 of the value itself" in text
    assert "found: off by up to 1.23% of the largest value, 1 argmax flips, 298 rows compared" in text
    assert "threads kept: 1; with 1: 1 µs for one row, 20 µs for 64; with 2: 3 µs" in text


def test_reduced_precision_is_said_with_what_it_costs() -> None:
    assert f"precision: {COST}" in shown(manifest(INT8))
    lines = [str(line) for line in reports.registered(SEEN, manifest(INT8))]
    assert any(COST in line for line in lines)


def test_a_plan_in_full_precision_says_nothing_about_it() -> None:
    assert "precision:" not in shown(manifest(replace(INT8, precision=None)))
