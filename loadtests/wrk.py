"""Runs `wrk` (Debian's package) against a loopback address and reads what it prints.

wrk is a closed loop: it is used for throughput and for the cost of one request on one connection, where nothing can
queue. Latency under a given rate is measured with the open loop of loadtests/openloop.py.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class WrkResult:
    """`rate` in requests per second; `p50` and `p99` in seconds; `failed` counts non-2xx answers and socket errors."""

    rate: float
    p50: float
    p99: float
    requests: int
    failed: int


def require() -> None:
    """Leave with a sentence when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")


def run(
    url: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    threads: int = 1,
    headers: Mapping[str, str] | None = None,
) -> WrkResult:
    """POST `body` to `url` over `connections` keep-alive connections for `seconds`, at least one."""
    if urlsplit(url).hostname not in ("127.0.0.1", "localhost"):
        raise ValueError(f"load goes to loopback only, got {url}")
    seconds = max(round(seconds), 1)
    with tempfile.TemporaryDirectory() as folder:
        sent = Path(folder, "body")
        sent.write_bytes(body)
        lines = ['wrk.method = "POST"', f'wrk.body = io.open("{sent}", "rb"):read("*a")']
        given = {"Content-Type": "application/json", **(headers or {})}
        lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in given.items()]
        script = Path(folder, "post.lua")
        script.write_text("\n".join(lines))
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
        command += ["-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return parse(output)


def measured(
    url: str, body: bytes, *, connections: int, seconds: float, headers: Mapping[str, str] | None = None
) -> WrkResult:
    """`run` after a second of warm-up that does not count. Raises RuntimeError when one request failed: then the
    numbers say nothing."""
    run(url, body, connections=connections, seconds=1, headers=headers)
    result = run(url, body, connections=connections, seconds=seconds, headers=headers)
    if result.failed:
        raise RuntimeError(f"{result.failed} of {result.requests} requests to {url} failed: no number from this round")
    return result


def parse(output: str) -> WrkResult:
    """Read wrk's report; raise ValueError when it holds no rate."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    if rate is None or total is None:
        raise ValueError(f"wrk printed no rate: {output[-400:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = (int(bad.group(1)) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)
    return WrkResult(
        rate=float(rate.group(1)),
        p50=_quantile(output, 50),
        p99=_quantile(output, 99),
        requests=int(total.group(1)),
        failed=failed,
    )


def _quantile(output: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", output, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk printed no {percent} % quantile: {output[-400:]}")
    return float(found.group(1)) * _UNITS[found.group(2)]
