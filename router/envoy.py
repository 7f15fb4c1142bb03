"""Envoy's admin interface over its Unix socket: is it ready, what is healthy, what is under way, drain, quit.

Reads and asks only; what follows from the answers is decided by the callers.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from contracts.clock import Clock
from contracts.errors import Unavailable
from router.bootstrap import DIGEST_KEY
from router.listener import STAT_PREFIX
from router.naming import SEPARATOR

MOST_NAMES = 16  # in one filter; for more, everything is read
MOST_LETTERS = 8000  # of names in one filter; with everything escaped it is far below the 60 KiB of a request's head
POLL_SECONDS = 0.02

_GAUGES = {
    "membership_healthy": "healthy",
    "upstream_rq_active": "active",
    "upstream_rq_pending_active": "waiting",
    "upstream_rq_total": "requests",
}
_HEALTHY = "::health_flags::healthy"
_STAT = re.compile(rf"cluster\.(.+)\.({'|'.join(_GAUGES)})")


@dataclass(frozen=True)
class ClusterFacts:
    """One cluster now: healthy workers, requests under way, requests waiting for a connection, and requests sent to
    workers since Envoy started (retries and pinned requests included)."""

    healthy: int = 0
    active: int = 0
    waiting: int = 0
    requests: int = 0

    @property
    def idle(self) -> bool:
        return not self.active and not self.waiting


class EnvoyAdmin:
    """Every method raises Unavailable when Envoy does not answer."""

    def __init__(self, socket: str, clock: Clock, seconds: float = 5.0) -> None:
        self._clock = clock
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket), base_url="http://envoy", timeout=seconds
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def ready(self) -> bool:
        """Whether Envoy has its first routes and listens. False too when nobody answers."""
        try:
            return (await self._ask("GET", "/ready", ok=(200, 503))).status_code == 200
        except Unavailable:
            return False

    async def version(self) -> str:
        """Envoy's own version words, such as `…/1.40.0/Clean/RELEASE/BoringSSL`."""
        return str((await self._info())["version"])

    async def bootstrap_digest(self) -> str:
        """The digest of the configuration this Envoy was started with (router.bootstrap.digest); "" if it has none."""
        return str((await self._info())["node"].get("metadata", {}).get(DIGEST_KEY, ""))

    async def clusters(self, names: Collection[str] | None = None) -> dict[str, ClusterFacts]:
        """Facts by cluster name, of our own clusters only; of `names` only, if given. A cluster that is not there, or
        not warm yet, is left out."""
        which = rf"[a-z]+\{SEPARATOR}.*"
        if names is not None and len(names) <= MOST_NAMES:
            which = "(" + "|".join(re.escape(name) for name in sorted(names)) + ")"
        counts: dict[str, dict[str, int]] = {}
        for name, value in await self._stats(rf"^cluster\.{which}\.({'|'.join(_GAUGES)})$"):
            found = _STAT.fullmatch(name)
            if found and (names is None or found[1] in names):
                counts.setdefault(found[1], {})[_GAUGES[found[2]]] = value
        return {name: ClusterFacts(**facts) for name, facts in counts.items()}

    async def healthy(self, names: Collection[str]) -> frozenset[str]:
        """Which of these clusters Envoy uses and have a healthy worker.

        A few are asked for by name, which takes Envoy milliseconds; statistics, of which it has millions with ten
        thousand models, take it seconds."""
        if len(names) > MOST_NAMES:
            if await self.warming():
                return frozenset()
            return frozenset(name for name, facts in (await self.clusters(names)).items() if facts.healthy)
        which = "^(" + "|".join(re.escape(name) for name in sorted(names)) + ")$"
        told = (await self._ask("GET", "/clusters", params={"filter": which})).text
        lines = (line.split("::", 1)[0] for line in told.splitlines() if line.endswith(_HEALTHY))
        return frozenset(lines) & frozenset(names)

    async def warming(self) -> int:
        """How many clusters Envoy knows and does not use yet."""
        return sum(value for _, value in await self._stats(r"^cluster_manager\.warming_clusters$"))

    async def requests_under_way(self) -> int:
        return sum(value for _, value in await self._stats(rf"^http\.{STAT_PREFIX}\.downstream_rq_active$"))

    async def prometheus(self) -> bytes:
        """Everything Envoy counts, as Prometheus text."""
        return (await self._ask("GET", "/stats/prometheus")).content

    async def counted(self, models: Collection[str], statistics: str) -> list[str]:
        """What Envoy counted of these models' clusters of every kind, as Prometheus text: `statistics` is a pattern of
        what stands behind a cluster's name. In several pieces when the models' names fill several requests.

        Durations are merged for an answer, so counters and histograms of one piece are of one moment. Envoy looks at
        every statistic it has for each piece, in the thread that takes configurations: hence as few as can be."""
        pieces = []
        for some in _by_length(models, MOST_LETTERS):
            names = "|".join(re.escape(name) for name in some)
            cluster = rf"[a-z]+\{SEPARATOR}[^|]+\{SEPARATOR}({names})\{SEPARATOR}\d+\{SEPARATOR}[a-z]+"
            pattern = rf"^(server\.uptime|cluster\.{cluster}\.{statistics})$"
            answer = await self._ask("GET", "/stats/prometheus?usedonly", params={"filter": pattern})
            pieces.append(answer.text)
        return pieces

    async def drain(self, seconds: float) -> bool:
        """Tell callers to leave, keep answering until no request is under way or `seconds` are over; says which.

        New connections are still accepted meanwhile, so nobody is refused; each answer closes its connection.
        """
        await self._ask("POST", "/drain_listeners?graceful&skip_exit")
        until = self._clock.monotonic() + seconds
        while await self.requests_under_way():
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(POLL_SECONDS)
        return True

    async def quit(self) -> None:
        """End the process."""
        await self._ask("POST", "/quitquitquit")

    async def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = (await self._ask("GET", "/server_info")).json()
        return info

    async def _stats(self, pattern: str) -> list[tuple[str, int]]:
        answer = await self._ask("GET", "/stats", params={"format": "json", "filter": pattern})
        return [(s["name"], s["value"]) for s in json.loads(answer.content)["stats"] if "name" in s and "value" in s]

    async def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, ok: tuple[int, ...] = (200,)
    ) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, params=params)
        except httpx.HTTPError as error:
            raise Unavailable(f"Envoy's admin did not answer {path}: {error or type(error).__name__}") from error
        if answer.status_code not in ok:
            raise Unavailable(f"Envoy's admin answered {path} with {answer.status_code}: {answer.text[:200]}")
        return answer


def _by_length(names: Collection[str], letters: int) -> list[list[str]]:
    """In groups of at most so many letters, none of them empty."""
    groups: list[list[str]] = []
    room = 0
    for name in names:
        if room < len(name):
            groups.append([])
            room = letters
        groups[-1].append(name)
        room -= len(name)
    return groups
