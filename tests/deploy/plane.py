"""A whole control plane in one event loop, with the fakes where the world would be. Tests speak to its HTTP API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from contracts.errors import Unavailable
from deploy.commands import Commands
from deploy.foresight import Foresight
from deploy.home import Home
from deploy.http.app import application
from deploy.http.facts import Parts
from deploy.manifests import Manifests
from deploy.monitoring.gather import Gathering
from deploy.outcomes import KnownOutcomes
from deploy.pace import Pacer
from deploy.reconcile import Reconciler
from deploy.registry.registry import Registry
from deploy.store.database import sqlite_url
from deploy.store.records import Version
from deploy.store.store import Store
from deploy.telemetry import Telemetry
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters
from tests.fakes.fleet import FakeFleet
from tests.fakes.memories import FakeMemories
from tests.fakes.traffic import FakeTraffic

BOUND = 20.0  # seconds after which a test that waits is wrong, never a measure


@dataclass
class Plane:
    home: Home
    store: Store
    fleet: FakeFleet
    traffic: FakeTraffic
    counters: FakeCounters
    clock: HandClock
    reconciler: Reconciler
    http: httpx.AsyncClient
    app: FastAPI
    memories: FakeMemories
    outcomes: KnownOutcomes

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/api/v1/models/{path}", json=body)

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def status(self, model: str = "m") -> Any:
        return await self.get(f"/api/v1/models/{model}/status")

    async def must(self, path: str, **body: Any) -> Any:
        answer = await self.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def versions(self, model: str, count: int) -> None:
        """Register versions that differ in nothing but number and digest."""
        add_versions(self.store, model, count)


@dataclass
class FakeEnvoy:
    """What the fleet says of Envoy, and whether it listens."""

    state: str = "ready"
    listens: bool = True

    async def ready(self) -> bool:
        return self.listens


def add_versions(store: Store, model: str, count: int) -> None:
    for n in range(count):
        new = Version(model, 0, f"{n:064x}", "litert", f"/models/{n}", 1.0, 0.001)
        store.add_version(new, actor="test")


@asynccontextmanager
async def plane(
    path: Path,
    *,
    instantly: bool = True,
    fleet: FakeFleet | None = None,
    traffic: FakeTraffic | None = None,
    counters: FakeCounters | None = None,
    ack_seconds: float = BOUND,
    ticking: bool = True,
    envoy: FakeEnvoy | None = None,
    clock: HandClock | None = None,
    owner: str = "home",
    kept_rollouts: int = 10,
) -> AsyncIterator[Plane]:
    """A running control plane on `path`; a second one on the same path is a restart, or, with another `owner`, one of
    another home that shares the database."""
    home, clock, envoy = Home(path), clock or HandClock(), envoy or FakeEnvoy()
    store = Store(sqlite_url(home.state), owner=owner, kept_rollouts=kept_rollouts)
    fleet, traffic = fleet or FakeFleet(instantly=instantly), traffic or FakeTraffic()
    counters = counters or FakeCounters()
    telemetry = Telemetry()
    memories = FakeMemories()
    outcomes = KnownOutcomes(memories, fleet, clock, telemetry.rollouts.labelled)
    reconciler = Reconciler(
        store=store,
        fleet=fleet,
        traffic=traffic,
        counters=counters,
        package_of=lambda d: str(home.package(d)),
        clock=clock,
        onlooker=telemetry.rollouts,
        outcomes=outcomes,
    )
    foresight = Foresight(store.deployment, Pacer(counters, clock), clock, seconds=1.0)  # as its looks are apart
    commands = Commands(
        store=store,
        fleet=fleet,
        reconciler=reconciler,
        foresight=foresight,
        clock=clock,
        told=telemetry.commanded,
        ack_seconds=ack_seconds,
        problems=Manifests(home.package).problems,
        renamed=Manifests(home.package).renamed,
    )
    telemetry.watch(Gathering(store, fleet, reconciler))
    parts = Parts(
        store=store,
        registry=Registry(home, store, clock=clock),
        fleet=fleet,
        reconciler=reconciler,
        commands=commands,
        foresight=foresight,
        telemetry=telemetry,
        clock=clock,
        port=8080,
        admin_port=8090,
        envoy_state=lambda: envoy.state,
        envoy_ready=envoy.ready,
        envoy_pid=lambda: 4242,
        envoy_metrics=_gone,
        worker_metrics=lambda _id: _gone(),
        recollection=memories,
        judge=outcomes.judge,
    )
    app = application(parts)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    reconciler.first_table()
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090") as http:
            running = asyncio.create_task(reconciler.run()) if ticking else None
            try:
                yield Plane(home, store, fleet, traffic, counters, clock, reconciler, http, app, memories, outcomes)
            finally:
                if running is not None:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
    finally:
        store.close()


async def _gone() -> bytes:
    raise Unavailable("nobody answers there")


async def until(what: str, holds: Callable[[], Any]) -> Any:
    """The first true value of `holds`, asked again whenever others ran."""
    try:
        async with asyncio.timeout(BOUND):
            while not (value := holds()):  # noqa: ASYNC110 - `holds` asks the outside, nobody rings
                await asyncio.sleep(0.001)
            return value
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None
