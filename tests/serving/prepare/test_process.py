"""`python -m serving.prepare` as the registry starts it: JSON lines only, one last line, no half package."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.package import MANIFEST, verify
from contracts.prepare import PrepareSpec
from tests.serving.prepare.conftest import MakeModel

pytestmark = pytest.mark.tensorflow

Lines = list[dict[str, Any]]


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


def start(spec: PrepareSpec, file_limit: int | None = None) -> subprocess.Popen[str]:
    """`file_limit` in bytes stands in for a full disk: writing past it fails half way, as it does there."""
    before = [] if file_limit is None else [sys.executable, "-c", LIMITED, str(file_limit)]
    return subprocess.Popen(before + spec.argv(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str]) -> Lines:
    out, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_progress_and_exactly_one_result_and_nothing_else_on_standard_output(model: MakeModel, tmp_path: Path) -> None:
    spec = PrepareSpec(str(model("conv")), str(tmp_path / "package"))
    process = start(spec)
    lines = finish(process)
    assert process.returncode == 0
    assert [set(line) for line in lines[:-1]] == [{"stage", "detail"}] * (len(lines) - 1)
    assert [line["stage"] for line in lines[:-1]] == [
        *("copy", "scan", "import", "load", "samples", "rows", "convert", "verify", "write")
    ]
    assert lines[-1]["result"]["plan"] == "litert"
    verify(tmp_path / "package", lines[-1]["result"]["digest"])


def test_a_refused_source_ends_with_one_error_line_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    process = start(PrepareSpec(str(tmp_path / "empty"), str(tmp_path / "package")))
    lines = finish(process)
    assert process.returncode == 1
    assert lines[-1]["error"]["code"] == "invalid_input"
    assert "got an empty directory" in lines[-1]["error"]["message"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "saved_model.pb").write_bytes(os.urandom(100_000))
    process = start(PrepareSpec(str(source), str(tmp_path / "package")), file_limit=10_000)
    lines = finish(process)
    assert process.returncode == 1
    assert lines[-1]["error"]["code"] == "unavailable", lines
    assert "space" in lines[-1]["error"]["message"]
    assert list((tmp_path / "package").iterdir()) == []


@pytest.mark.parametrize("stage", ["load", "verify"])
def test_kill_9_leaves_no_manifest_and_no_process(stage: str, model: MakeModel, tmp_path: Path) -> None:
    process = start(PrepareSpec(str(model("conv")), str(tmp_path / "package")))
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if json.loads(line).get("stage") == stage:
                break
        converters = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert converters  # one for each runtime that is installed
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in converters))
    assert not (tmp_path / "package" / MANIFEST).exists()
