"""What the fleet's tests share: a home under tmp_path, a fleet of stand-ins, waiting with a limit."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from contracts.names import Color
from contracts.worker import WorkerSpec
from deploy.fleet.backoff import RestartRules
from deploy.fleet.health import HealthRules
from deploy.fleet.processes import ProcessFleet, fleet_token
from deploy.fleet.procfs import marked_processes
from deploy.fleet.settings import FleetSettings
from deploy.ports import Placement, WorkerState, WorkerStatus
from tests.fakes.ledger import FakeLedger

STANDIN = Path(__file__).with_name("standin.py")
LIMIT = 30.0  # seconds after which a test gives up on a real process; none comes near it on a healthy machine

QUICK = FleetSettings(
    drain_seconds=5.0,
    grace_margin=1.0,
    orphan_seconds=2.0,
    health=HealthRules(check_seconds=0.1, answer_seconds=0.25, suspect_after=2, stuck_after=6),
    restarts=RestartRules(first_wait=0.05, longest_wait=0.2),
)


@dataclass
class House:
    """A home for one fleet at a time."""

    root: Path
    sockets: Path
    ledger: FakeLedger = field(default_factory=FakeLedger)

    @property
    def home(self) -> Path:
        return self.root / "home"

    def fleet(self, **changes: object) -> ProcessFleet:
        arguments: dict[str, object] = {
            "home": self.home,
            "sockets": self.sockets,
            "logs": self.home / "logs",
            "ledger": self.ledger,
            "settings": QUICK,
            "command": standin_command,
        }
        return ProcessFleet(**{**arguments, **changes})  # type: ignore[arg-type]

    def placement(
        self, version: int = 1, color: Color = Color.BLUE, replicas: int = 1, **behaviour: object
    ) -> Placement:
        package = self.root / f"package-{version}"
        package.mkdir(exist_ok=True)
        behave(package, **behaviour)
        return Placement("digits", version, color, f"sha256-{version}", str(package), replicas)

    def running(self) -> list[int]:
        return sorted(m.identity.pid for m in marked_processes(fleet_token(self.home)))


def standin_command(spec: WorkerSpec) -> list[str]:
    arguments = spec.argv()
    return [sys.executable, str(STANDIN), *arguments[arguments.index("--model") :]]


def behave(package: Path, **behaviour: object) -> None:
    (package / "behaviour.json").write_text(json.dumps(behaviour))


@contextmanager
def house(tmp_path: Path) -> Iterator[House]:
    """A home whose sockets have short paths, and a check that the test left no process behind."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    with TemporaryDirectory(prefix="teal-") as sockets:
        here = House(tmp_path, Path(sockets))
        try:
            yield here
            deadline = time.monotonic() + LIMIT
            while (left := here.running()) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not left, f"processes left behind: {left}"
        finally:
            for pid in here.running():
                os.kill(pid, signal.SIGKILL)


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Return once `holds()`; fail with `what` after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.01)


async def all_ready(fleet: ProcessFleet, count: int) -> tuple[WorkerStatus, ...]:
    await eventually(
        lambda: [w.state for w in fleet.workers()] == [WorkerState.READY] * count, f"{count} workers ready"
    )
    return fleet.workers()


async def only_worker(fleet: ProcessFleet, state: WorkerState) -> WorkerStatus:
    await eventually(lambda: [w.state for w in fleet.workers()] == [state], f"the only worker {state}")
    return fleet.workers()[0]
