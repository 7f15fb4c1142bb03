"""One worker of the fleet: how it is recorded, spawned and asked. Its life is told by supervisor.py."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from contracts.clock import Clock
from contracts.worker import WorkerSpec
from deploy.fleet.adoption import worker_spec
from deploy.fleet.environment import child_environment
from deploy.fleet.ledger import ProcessKind, ProcessLedger, ProcessRecord
from deploy.fleet.plan import Present, worker_id
from deploy.fleet.probe import SocketProbe
from deploy.fleet.process import Command, Process
from deploy.fleet.recording import forget_recorded, spawn_recorded
from deploy.fleet.settings import FleetSettings
from deploy.fleet.supervisor import Care, Subject, Supervisor
from deploy.ports import Placement, WorkerStatus


@dataclass(frozen=True)
class Workshop:
    """What every worker of one fleet is made with."""

    token: str
    sockets: Path
    logs: Path
    quarantine: Path
    packed: Path
    ledger: ProcessLedger
    clock: Clock
    random: Random
    settings: FleetSettings
    command: Callable[[WorkerSpec], list[str]]
    tell: Callable[[], None]


class Worker:
    """One worker, through all its incarnations. `placement` has replicas=1; one that is equal may take its place and
    holds from the next incarnation on."""

    def __init__(self, shop: Workshop, placement: Placement, replica: int, socket: str = "") -> None:
        self.id = worker_id(placement, replica)
        self.placement = placement
        self.replica = replica
        self.socket = socket
        self.task: asyncio.Task[None] | None = None
        self._shop = shop
        self._subject = Subject(
            name=f"worker {placement.model}/{placement.version}" + (f" replica {replica}" if replica else ""),
            log=shop.logs / f"worker-{self.id}.log",
            launch=self._launch,
            probe=lambda: SocketProbe(self.socket, shop.settings.health.answer_seconds),
            gone=self._gone,
        )
        settings = shop.settings
        self.supervisor = Supervisor(
            self._subject,
            Care(
                clock=shop.clock,
                random=shop.random,
                tell=shop.tell,
                grace=settings.drain_seconds + settings.grace_margin,
                health=settings.health,
                restarts=settings.restarts,
            ),
        )

    @property
    def present(self) -> Present:
        return Present(self.id, self.placement, self.replica, self.supervisor.state)

    @property
    def status(self) -> WorkerStatus:
        supervisor, placement = self.supervisor, self.placement
        return WorkerStatus(
            id=self.id,
            model=placement.model,
            version=placement.version,
            color=placement.color,
            state=supervisor.state,
            endpoint=self.socket if supervisor.pid is not None else "",
            pid=supervisor.pid,
            restarts=supervisor.restarts,
            reason=supervisor.reason,
        )

    def _launch(self) -> Process:
        shop, placement = self._shop, self.placement
        nonce = secrets.token_hex(4)
        mark = f"{self.id}@{nonce}"
        shop.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A path of its own for each incarnation: nothing meant for the dead one can reach its successor.
        self.socket = str(shop.sockets / f"w-{nonce}.sock")
        intent = ProcessRecord(
            id=self.id,
            kind=ProcessKind.WORKER,
            model=placement.model,
            version=placement.version,
            color=placement.color.value,
            replica=self.replica,
            pid=None,
            start_ticks=None,
            socket=self.socket,
            spec=worker_spec(mark, placement),
            started_at=shop.clock.wall(),
        )
        command = Command(
            argv=tuple(shop.command(self._spec())),
            env=child_environment(os.environ, fleet=shop.token, process=mark, threads=placement.threads),
            log=self._subject.log,
            oom_score=shop.settings.oom_score,
        )
        return spawn_recorded(shop.ledger, intent, command)

    def _spec(self) -> WorkerSpec:
        placement = self.placement
        return WorkerSpec(
            model=placement.model,
            version=placement.version,
            color=placement.color,
            package=str(Path(placement.package).absolute()),
            digest=placement.digest,
            socket=self.socket,
            threads=placement.threads,
            replicas=placement.share,
            gentle=placement.gentle,
            drain_seconds=self._shop.settings.drain_seconds,
            # By digest: what killed this version may be harmless to the next, and colors and restarts change nothing.
            quarantine=str(self._shop.quarantine / placement.digest),
            packed=str(self._shop.packed / placement.digest),
        )

    def _gone(self) -> None:
        """Tidy up behind an incarnation that has ended."""
        with contextlib.suppress(OSError):  # a socket nobody listens on is swept at the next start
            Path(self.socket).unlink(missing_ok=True)
        forget_recorded(self._shop.ledger, self.id)
