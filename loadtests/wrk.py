"""Runs `wrk` (Debian's package) against a loopback address and reads what it prints.

wrk is a closed loop: it is used for throughput and for the cost of one request on one connection, where nothing can
queue. Latency under a given rate is measured with the open loop of loadtests/openloop.py.
"""

import json
import re
import shutil
import subprocess
import tempfile
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


def installed() -> bool:
    return shutil.which("wrk") is not None


def run(url: str, body: bytes, *, connections: int, seconds: int, threads: int = 1) -> WrkResult:
    """POST `body` to `url` over `connections` keep-alive connections for `seconds`."""
    if urlsplit(url).hostname not in ("127.0.0.1", "localhost"):
        raise ValueError(f"load goes to loopback only, got {url}")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(
            'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
            f"wrk.body = {json.dumps(body.decode())}\n"
        )
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    return parse(output)


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
