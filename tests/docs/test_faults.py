"""The table of faults names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def named() -> list[tuple[str, str]]:
    """File and beginning of the name of each test in the last column; `…` repeats the file before."""
    found: list[tuple[str, str]] = []
    file = ""
    for line in (ROOT / "docs/faults.md").read_text().splitlines():
        if line.startswith("|"):
            for word in re.findall(r"`([^`]+)`", line.rsplit(" | ", 1)[-1]):
                path, _, test = word.rstrip("…").partition("::")
                file = file if path == "…" else path
                found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), named())
def test_every_test_in_the_table_of_faults_exists(file: str, test: str) -> None:
    path = next((p for p in (ROOT / file, *(ROOT / "tests/serving").glob(f"*/{file}")) if p.exists()), None)
    assert path is not None, f"no {file}"
    if test:
        assert f"def {test}" in path.read_text(), f"{file} has no {test}"


def test_the_table_is_not_empty() -> None:
    assert len(named()) > 15
