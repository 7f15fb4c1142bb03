"""A real Envoy under a real Router, with everything in one short-lived directory."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from contracts.limits import LIMITS, Limits
from contracts.names import Color
from contracts.traffic import TOTAL, TrafficSplit
from router import bootstrap
from router.bootstrap import EnvoyConfig
from router.envoy import ClusterFacts
from router.naming import kind_of
from router.publisher import Patience
from router.router import Router
from router.table import Backend, ModelRoutes, RoutingTable
from tests.router.workers import FakeWorker

DIGESTS = {version: f"{version:064x}" for version in range(1, 20)}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def split(green: int) -> TrafficSplit:
    """`green` percent for green."""
    return TrafficSplit.with_share(Color.GREEN, green * TOTAL // 100)


def backend(version: int, color: Color, *workers: FakeWorker | str) -> Backend:
    endpoints = tuple(w if isinstance(w, str) else str(w.socket) for w in workers)
    return Backend(version, DIGESTS[version], color, endpoints)


def both(model: str, blue: Backend, green: Backend, green_percent: int) -> ModelRoutes:
    labels = {"live": blue.version, "candidate": green.version, "blue": blue.version, "green": green.version}
    return ModelRoutes(model, (blue, green), split(green_percent), labels)


def alone(model: str, only: Backend) -> ModelRoutes:
    return ModelRoutes(
        model, (only,), TrafficSplit.all_to(only.color), {"live": only.version, str(only.color): only.version}
    )


def table(*models: ModelRoutes) -> RoutingTable:
    return RoutingTable(tuple(sorted(models, key=lambda m: m.model)))


@dataclass
class Counted:
    """An Observer that keeps what it was told."""

    acks: list[str] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)

    def acknowledged(self, kind: str, seconds: float) -> None:
        self.acks.append(kind)

    def refused(self, kind: str, words: str) -> None:
        self.refusals.append((kind, words))

    def connected(self, nodes: int) -> None:
        self.nodes.append(nodes)


@dataclass
class Gateway:
    config: EnvoyConfig
    directory: Path
    router: Router
    observer: Counted
    client: httpx.AsyncClient
    process: asyncio.subprocess.Process | None = None
    workers: list[FakeWorker] = field(default_factory=list)

    async def worker(self, name: str) -> FakeWorker:
        made = await FakeWorker(self.directory / f"{name}.sock", name).start()
        self.workers.append(made)
        return made

    async def start_envoy(self) -> None:
        path = self.directory / "envoy.json"
        bootstrap.write(self.config, path)
        self.process = await asyncio.create_subprocess_exec(
            *bootstrap.argv(self.config, path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )

    async def kill_envoy(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def restart_control_plane(self) -> None:
        """Another router on the same socket, which knows nothing yet; the former one died."""
        await self.router.stop()
        self.observer = Counted()
        self.router = Router(self.config, observer=self.observer, patience=PATIENCE)
        await self.router.start()

    async def clusters(self, kind: str) -> dict[str, ClusterFacts]:
        """What Envoy says of its clusters of one kind."""
        return {name: facts for name, facts in (await self.router.admin.clusters()).items() if kind_of(name) == kind}

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.post(path, **{"content": b"{}", **more})


PATIENCE = Patience(ack=10, warm=5, settle=5, drain=10)


@asynccontextmanager
async def gateway(limits: Limits = LIMITS, **changes: Any) -> AsyncIterator[Gateway]:
    """A started Envoy with a router and no table. The directory is short because Unix socket paths are."""
    directory = Path(tempfile.mkdtemp(prefix="teal-r-"))
    config = EnvoyConfig(
        host="127.0.0.1",
        port=free_port(),
        admin_socket=str(directory / "admin.sock"),
        xds_socket=str(directory / "xds.sock"),
        log_path=str(directory / "envoy.log"),
        concurrency=2,
        limits=limits,
    )
    config = replace(config, **changes)
    observer = Counted()
    router = Router(config, observer=observer, patience=PATIENCE)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.port}", timeout=20) as client:
        here = Gateway(config, directory, router, observer, client)
        try:
            await router.start()
            await here.start_envoy()
            yield here
        finally:
            await here.kill_envoy()
            await here.router.stop()
            for worker in here.workers:
                await worker.die()
            if os.environ.get("TEAL_KEEP"):
                print("kept", directory)
            else:
                shutil.rmtree(directory)


async def raw(g: Gateway, sent: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", g.config.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    return said.decode("latin-1")


async def until(claim: Callable[[], Any], seconds: float = 10.0) -> None:
    """Poll until `claim()`, which may be a coroutine function, is true; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            said = claim()
            if await said if asyncio.iscoroutine(said) else said:
                return
            await asyncio.sleep(0.01)
