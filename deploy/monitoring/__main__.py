"""Writes the dashboards: `python -m deploy.monitoring`. A test compares them with what stands in the repository."""

import json
from pathlib import Path

from deploy.monitoring.cockpit import FILE, cockpit

HERE = Path(__file__).parent


def pages() -> dict[str, str]:
    """Every generated file by its path below this package."""
    return {FILE: json.dumps(cockpit(), indent=1) + "\n"}


def main() -> None:
    for name, page in pages().items():
        (HERE / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
