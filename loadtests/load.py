"""What an open-loop run sends, and what came of it, as values. openloop.py does the sending."""

import ipaddress
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

MOST_REQUESTS = 1_000_000
MOST_SECONDS = 600.0
MOST_CONNECTIONS = 1024


@dataclass(frozen=True)
class Load:
    """What to send.

    rate         requests per second             seconds   for how long
    connections  most open at a time; a request that finds none free waits, and its wait counts
    fresh        a new connection for each request instead of kept ones
    poisson      independent arrivals instead of a fixed beat, drawn from `seed`
    timeout      seconds from sending to giving up
    headers      `{n}` in a value becomes the number of the request
    bodies       sent in turn instead of `body`, so that a share of the requests can differ from the rest
    Raises ValueError for what is out of bounds or not on this machine.
    """

    url: str
    rate: float
    seconds: float
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    connections: int = 64
    fresh: bool = False
    poisson: bool = False
    seed: int = 1
    timeout: float = 10.0
    keep_bodies: bool = False
    bodies: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _ = self.address
        if not 0 < self.rate <= MOST_REQUESTS:
            raise ValueError(f"rate: expected 0 to {MOST_REQUESTS} requests per second, got {self.rate}")
        if not 0 < self.seconds <= MOST_SECONDS:
            raise ValueError(f"seconds: expected up to {MOST_SECONDS:.0f}, got {self.seconds}")
        if self.rate * self.seconds > MOST_REQUESTS:
            raise ValueError(f"expected at most {MOST_REQUESTS} requests, got {self.rate * self.seconds:.0f}")
        if not 0 < self.connections <= MOST_CONNECTIONS:
            raise ValueError(f"connections: expected 1 to {MOST_CONNECTIONS}, got {self.connections}")

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = False
        if parts.scheme != "http" or not local:
            raise ValueError(f"{self.url}: expected http:// and an address of this machine (127.0.0.1, ::1)")
        return host, parts.port or 80

    def schedule(self) -> Iterator[float]:
        """When each request is due, in seconds from the start."""
        if not self.poisson:
            return (n / self.rate for n in range(round(self.rate * self.seconds)))
        random = Random(self.seed)
        times = itertools.accumulate(random.expovariate(self.rate) for _ in itertools.count())
        return itertools.islice(itertools.takewhile(lambda at: at < self.seconds, times), MOST_REQUESTS)

    @property
    def alike(self) -> bool:
        """Whether every request has the same bytes."""
        return not self.bodies and not any("{n}" in value for _, value in self.headers)

    def request(self, n: int) -> bytes:
        body = self.bodies[n % len(self.bodies)] if self.bodies else self.body
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value.replace('{n}', str(n))}" for name, value in self.headers]
        if body and not any(name.lower() == "content-type" for name, _ in self.headers):
            lines.append("content-type: application/json")
        if self.fresh:
            lines.append("connection: close")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: due, sent and done in seconds from the start of the run; status 0 when there was no answer."""

    due: float
    sent: float
    done: float
    status: int
    version: str
    failure: str
    body: bytes = field(default=b"", repr=False)

    @property
    def latency(self) -> float:
        return self.done - self.due

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Outcome:
    """All samples, in the order in which they were done. `began` is the wall time of their zero, in seconds."""

    samples: tuple[Sample, ...]
    began: float = 0.0

    @property
    def sent(self) -> int:
        return len(self.samples)

    @property
    def ok(self) -> int:
        return sum(sample.ok for sample in self.samples)

    @property
    def failures(self) -> Counter[str]:
        """How often what went wrong: `status 503`, `timeout`, `connection closed before the answer`."""
        return Counter(s.failure or f"status {s.status}" for s in self.samples if not s.ok)

    @property
    def versions(self) -> Counter[str]:
        """Good answers by x-teal-version."""
        return Counter(s.version for s in self.samples if s.ok)

    def quantile(self, q: float) -> float:
        """Seconds from due to done of the good answers at quantile `q`; NaN without any. Nearest rank."""
        latencies = sorted(s.latency for s in self.samples if s.ok)
        return latencies[max(math.ceil(q * len(latencies)) - 1, 0)] if latencies else math.nan

    @property
    def lateness(self) -> float:
        """Longest time in seconds from due to sent: what the generator itself, or a lack of connections, added."""
        return max((s.sent - s.due for s in self.samples), default=0.0)

    def summary(self) -> dict[str, object]:
        span = max((s.done for s in self.samples), default=0.0)
        return {
            "sent": self.sent,
            "ok": self.ok,
            "failures": dict(self.failures),
            "versions": dict(self.versions),
            "answers_per_second": round(self.ok / span, 1) if span else 0.0,
            "latency_seconds": {f"p{q:g}": self.quantile(q / 100) for q in (50, 90, 99, 99.9, 100)},
            "lateness_seconds": self.lateness,
        }
