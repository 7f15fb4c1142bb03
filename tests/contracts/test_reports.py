"""What a manifest says about plans survives the disk, and packages of earlier releases keep their digest."""

import hashlib
from typing import Any

from contracts.package import (
    Lineage,
    Manifest,
    PlanReport,
    canonical_json,
    digest_of,
    manifest_from_json,
    manifest_to_json,
)


def manifest(report: PlanReport) -> Manifest:
    return Manifest("savedmodel", "0" * 64, report.name, (report,), (), (1,), None, (), Lineage(), "now", {})


FIRST = PlanReport("litert", "chosen", "fastest", "plans/litert/model.tflite", 1e-7, 0, 10, {"1": 0.001})
FIRST_JSON: dict[str, Any] = {
    "name": "litert",
    "status": "chosen",
    "reason": "fastest",
    "path": "plans/litert/model.tflite",
    "max_abs_error": 1e-7,
    "argmax_flips": 0,
    "rows_checked": 10,
    "seconds_per_run": {"1": 0.001},
}


def test_a_package_of_an_earlier_release_keeps_its_digest() -> None:
    written = {**manifest_to_json(manifest(FIRST)), "plans": [FIRST_JSON]}
    read = manifest_from_json(written)
    assert read.plans == (FIRST,)
    assert digest_of(read) == hashlib.sha256(canonical_json(written)).hexdigest()


def test_everything_that_was_found_out_comes_back() -> None:
    full = PlanReport(
        "litert-int8",
        "chosen",
        "close",
        "plans/litert-int8/model.tflite",
        max_rel_error=0.01,
        tolerance={"float32": (0.02, 0.05)},
        precision="8-bit weights",
        threads=2,
        seconds_by_threads={"1": {"1": 0.2}, "2": {"1": 0.1}},
    )
    assert manifest_from_json(manifest_to_json(manifest(full))).plans == (full,)
