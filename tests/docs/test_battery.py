"""The table of the fault battery names tests that exist, and misses none."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "battery.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w*\*?)`", TABLE)


def names_in(path: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def fits(pattern: str, name: str) -> bool:
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def test_every_test_that_the_table_names_exists() -> None:
    assert len(NAMED) > 30
    missing = [(f, p) for f, p in NAMED if not any(fits(p, name) for name in names_in(ROOT / f))]
    assert missing == []


def test_every_row_that_has_a_test_stands_in_the_table() -> None:
    rows = set(re.findall(r"^\| ([A-Z]\d+) \|", TABLE, re.MULTILINE))
    for path in sorted((ROOT / "tests" / "battery").glob("test_*.py")):
        for name in names_in(path):
            of_test = {row.upper() for row in re.findall(r"(?<=_)([abcdo]\d+)(?=_)", name)}
            assert of_test, f"{name} does not say which row it is"
            assert of_test <= rows, name
            assert any(f == f"tests/battery/{path.name}" and fits(p, name) for f, p in NAMED), name
