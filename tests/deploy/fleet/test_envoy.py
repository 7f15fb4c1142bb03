"""Envoy as a supervised process: adopted, replaced, restarted; with a stand-in, and once with the real one."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from contracts.clock import SystemClock
from deploy.fleet.envoy import RESTARTS, EnvoyProcess, EnvoySpec, envoy_digest
from deploy.fleet.health import HealthRules
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.ports import WorkerState
from router import bootstrap
from router.envoy import EnvoyAdmin
from tests.deploy.fleet.gear import House, eventually

READY, STARTING, BROKEN = WorkerState.READY, WorkerState.STARTING, WorkerState.BROKEN
STANDIN = Path(__file__).with_name("standin_envoy.py")
HEALTH = HealthRules(start_seconds=60, check_seconds=0.1, answer_seconds=0.25, suspect_after=2, stuck_after=6)


@dataclass
class Front:
    """What an Envoy of one house is started with. `drained` counts how often callers were told to leave."""

    house: House
    settings: dict[str, object] = field(default_factory=dict)
    digest: str = "a"
    written: int = 0
    drained: int = 0
    drain_error: Exception | None = None

    def envoy(self) -> EnvoyProcess:
        path = self.house.root / "envoy.json"
        spec = EnvoySpec((sys.executable, str(STANDIN), str(path)), self.digest, self.write, self.ready, self.drain)
        return EnvoyProcess(
            spec,
            home=self.house.home,
            logs=self.house.home / "logs",
            ledger=self.house.ledger,
            health=HEALTH,
            restarts=replace(RESTARTS, first_wait=0.05, longest_wait=0.1),
        )

    def write(self) -> None:
        self.written += 1
        socket_path = str(self.house.sockets / "envoy.sock")
        (self.house.root / "envoy.json").write_text(json.dumps({"socket": socket_path, **self.settings}))

    async def ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.house.sockets / "envoy.sock"))
        except (FileNotFoundError, ConnectionError):
            return False
        try:
            writer.write(b"GET /ready HTTP/1.1\r\n\r\n")
            return b"200" in await reader.readline()
        finally:
            writer.close()

    async def drain(self) -> None:
        self.drained += 1
        if self.drain_error is not None:
            raise self.drain_error


@pytest.fixture
def front(house: House) -> Front:
    return Front(house)


def run(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 120))


async def state(envoy: EnvoyProcess, wanted: WorkerState) -> int:
    await eventually(lambda: envoy.status.state is wanted, f"envoy {wanted}")
    return envoy.status.pid or 0


def test_it_starts_drains_and_ends(front: Front):
    async def story() -> None:
        envoy = front.envoy()
        await envoy.start()
        assert await state(envoy, READY) in front.house.running()
        await envoy.close(drain=True)
        assert (front.drained, front.house.running(), front.house.ledger.processes()) == (1, [], [])

    run(story())


def test_a_killed_envoy_comes_back_with_a_fresh_bootstrap(front: Front):
    async def story() -> None:
        envoy = front.envoy()
        await envoy.start()
        for deaths in range(1, 8):
            os.kill(await state(envoy, READY), signal.SIGKILL)
            await eventually(lambda: envoy.status.restarts == deaths, "started again")  # noqa: B023
        await state(envoy, READY)
        assert front.written == 8
        await envoy.close(drain=True)

    run(story())


def test_the_next_control_plane_adopts_an_envoy_with_the_same_digest(front: Front):
    async def story() -> None:
        first = front.envoy()
        await first.start()
        pid = await state(first, READY)
        await first.close(drain=False)
        second = front.envoy()
        await second.start()
        assert (second.status.state, second.status.pid, front.written, front.drained) == (READY, pid, 1, 0)
        await second.close(drain=True)

    run(story())


def test_an_envoy_spawned_a_moment_before_the_crash_is_adopted_by_its_mark(front: Front):
    async def story() -> None:
        first = front.envoy()
        await first.start()
        pid = await state(first, READY)
        await first.close(drain=False)
        (record,) = front.house.ledger.processes()
        front.house.ledger.save_process(replace(record, pid=None, start_ticks=None))
        second = front.envoy()
        await second.start()
        assert second.status.pid == pid
        assert front.house.ledger.processes() == [record]
        await second.close(drain=True)

    run(story())


def test_an_envoy_with_another_digest_is_drained_and_replaced_and_never_beside_the_next(front: Front):
    async def story() -> None:
        first = front.envoy()
        await first.start()
        pid = await state(first, READY)
        await first.close(drain=False)
        front.digest = "b"
        front.drain_error = ConnectionError("admin socket gone")
        second = front.envoy()
        await second.start()
        assert pid not in front.house.running()
        assert await state(second, READY) != pid
        assert front.drained == 1
        (record,) = front.house.ledger.processes()
        assert envoy_digest(record) == "b"
        await second.close(drain=True)

    run(story())


def test_an_envoy_that_cannot_take_its_port_is_given_up_with_its_own_words(front: Front):
    async def story() -> None:
        front.settings = {"exit": 1, "says": "cannot bind '127.0.0.1:8080': Address already in use"}
        envoy = front.envoy()
        await envoy.start()
        reason = await envoy.given_up()
        assert "envoy exited with code 1: cannot bind '127.0.0.1:8080': Address already in use; died 3 times" in reason
        front.settings = {}
        assert envoy.retry()
        await state(envoy, READY)
        await envoy.close(drain=True)

    run(story())


def test_an_envoy_that_once_worked_is_never_given_up(front: Front):
    async def story() -> None:
        envoy = front.envoy()
        await envoy.start()
        pid = await state(envoy, READY)
        front.settings = {"exit": 1}
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: envoy.status.restarts >= 6, "tried again and again")
        assert envoy.status.state is not BROKEN
        front.settings = {}
        await state(envoy, READY)
        await envoy.close(drain=True)

    run(story())


def test_an_envoy_that_hangs_is_suspect_and_then_replaced(front: Front):
    async def story() -> None:
        envoy = front.envoy()
        await envoy.start()
        pid = await state(envoy, READY)
        os.kill(pid, signal.SIGSTOP)
        await state(envoy, STARTING)
        await eventually(lambda: envoy.status.restarts == 1, "replaced")
        assert await state(envoy, READY) != pid
        await envoy.close(drain=True)

    run(story())


def test_a_record_that_does_not_name_a_digest_fits_no_envoy():
    record = ProcessRecord("envoy", ProcessKind.ENVOY, "", 0, "", 0, 1, 1, "", "{}", 0.0)
    assert envoy_digest(record) == ""
    assert envoy_digest(replace(record, spec="not json")) == ""


@pytest.mark.e2e
def test_the_real_envoy_comes_back_after_kill_9_and_is_adopted_by_the_next_control_plane(house: House):
    """With a bootstrap that needs no control plane, so that only the supervision is in question."""
    path = house.root / "envoy.json"
    socket = str(house.sockets / "admin.sock")
    document = {"admin": {"address": {"pipe": {"path": socket}}}}

    def write() -> None:
        path.write_text(json.dumps(document))

    def supervise(admin: EnvoyAdmin) -> EnvoyProcess:
        async def drain() -> None:
            await admin.drain(5.0)

        argv = (bootstrap.binary(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
        spec = EnvoySpec(argv, "digest", write, admin.ready, drain)
        return EnvoyProcess(spec, home=house.home, logs=house.home / "logs", ledger=house.ledger)

    async def story() -> None:
        async with EnvoyAdmin(socket, SystemClock()) as admin:
            first = supervise(admin)
            await first.start()
            os.kill(await state(first, READY), signal.SIGKILL)
            await eventually(lambda: first.status.restarts == 1, "started again")
            pid = await state(first, READY)
            await first.close(drain=False)

            second = supervise(admin)
            await second.start()
            assert (second.status.state, second.status.pid) == (READY, pid)
            await second.close(drain=True)

    run(story())
