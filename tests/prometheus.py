"""A real Prometheus (Debian's package) with the shipped configuration. Only its ports and intervals are the test's own;
what it found is asked over its HTTP API."""

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.gateway import free_port

CONFIG = Path(__file__).parents[1] / "deploy" / "monitoring" / "prometheus.yml"
RULES = CONFIG.parent / "rules"
OPERATING_PORT = "127.0.0.1:8090"  # as it stands in the shipped configuration
LIMIT = 60.0  # seconds until a wait fails a test; never a measure

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"
)


@dataclass(frozen=True)
class Series:
    """One line of an instant query's answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    """What one asks of a running Prometheus at `url`."""

    url: str

    def query(self, promql: str) -> list[Series]:
        """The series of an instant query now; none while Prometheus is still starting."""
        answer = self._get("/api/v1/query", query=promql)
        return [Series(s["metric"], float(s["value"][1])) for s in answer.get("result", [])] if answer else []

    def names(self) -> set[str]:
        """The name of every series it ever saw."""
        return set(self._get("/api/v1/label/__name__/values") or [])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule it evaluates, with its health."""
        groups = (self._get("/api/v1/rules") or {}).get("groups", [])
        return [rule for group in groups for rule in group["rules"]]

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """What it would send of one alert."""
        found = (self._get("/api/v1/alerts") or {}).get("alerts", [])
        return [alert for alert in found if alert["labels"]["alertname"] == name]

    def until(self, promql: str, holds: Callable[[list[Series]], bool]) -> list[Series]:
        """Ask again until what is found satisfies `holds`; fail with what was found last."""
        deadline = time.monotonic() + LIMIT
        while not holds(found := self.query(promql)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {LIMIT:g} s: {promql}; last answer {found}")
            time.sleep(0.2)
        return found

    def by(self, promql: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of a query by these labels, what is not a number left out."""
        found = {tuple(s.labels.get(name, "") for name in labels): s.value for s in self.query(promql)}
        return {key: value for key, value in found.items() if not math.isnan(value)}

    def _get(self, path: str, **params: str) -> Any:
        try:
            answer = httpx.get(self.url + path, params=params)
        except httpx.TransportError:
            return None
        return answer.json().get("data") if answer.status_code == 200 else None


def rules() -> list[dict[str, Any]]:
    """Every shipped rule."""
    files = sorted(RULES.glob("*.yml"))
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, operating_port: int) -> Iterator[Prometheus]:
    """Scrapes the operating port every second and keeps everything in `folder`; ended with the block."""
    config = folder / "prometheus.yml"
    (folder / "rules").mkdir()
    for file in RULES.glob("*.yml"):
        (folder / "rules" / file.name).write_text(re.sub(r"(?m)^( +interval:) \w+$", r"\1 1s", file.read_text()))
    text = CONFIG.read_text().replace(OPERATING_PORT, f"127.0.0.1:{operating_port}")
    config.write_text(text.replace("5s", "1s").replace("4s", "1s"))
    own = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={own}"], stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{own}")
    finally:
        process.terminate()
        try:
            process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
