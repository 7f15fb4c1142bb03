"""The fleet of one machine: every worker is a local process. Implements deploy.ports.Fleet.

Decisions are elsewhere: plan.py says what to start and drain, backoff.py and health.py what to do about one worker.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from random import Random

from contracts.clock import Clock, SystemClock
from contracts.errors import InvalidInput, Unavailable
from contracts.worker import WorkerSpec
from deploy.fleet.adoption import Found, incarnation, placement, sort_out
from deploy.fleet.bell import Bell
from deploy.fleet.ledger import ProcessKind, ProcessLedger, ProcessRecord
from deploy.fleet.logfile import prune_logs
from deploy.fleet.plan import plan, single
from deploy.fleet.process import Process, attach, check_platform
from deploy.fleet.procfs import Identity, marked_processes
from deploy.fleet.settings import FleetSettings
from deploy.fleet.worker import Worker, Workshop
from deploy.ports import Placement, WorkerStatus

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES = 107  # sun_path of Linux, its closing zero taken off
SOCKET_NAME_BYTES = len("/w-00000000.sock")


def fleet_token(home: Path) -> str:
    """The mark of all processes of one home, in their environment. Two homes never touch each other's processes;
    two ways to write the path of one home are one home."""
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]


def check_socket_room(folder: Path) -> None:
    """Raise InvalidInput when a worker's socket in `folder` would have a path that Unix cannot hold."""
    length = len(os.fsencode(folder.absolute())) + SOCKET_NAME_BYTES
    if length > SOCKET_PATH_BYTES:
        raise InvalidInput(
            f"socket folder {folder}: sockets in it would have paths of {length} bytes, Unix allows "
            f"{SOCKET_PATH_BYTES}; choose a shorter one"
        )


class ProcessFleet:
    """Keeps local worker processes alive. Belongs to one event loop; one per home, which the home's lock ensures.

    Call `adopt` once before the first `converge`, and `close` at the end.
    """

    def __init__(
        self,
        *,
        home: Path,
        sockets: Path,
        logs: Path,
        ledger: ProcessLedger,
        clock: Clock | None = None,
        settings: FleetSettings | None = None,
        command: Callable[[WorkerSpec], list[str]] = WorkerSpec.argv,
        random: Random | None = None,
    ) -> None:
        """Raises Unsupported where local processes cannot be watched, InvalidInput when `sockets` is too long a path
        to hold a Unix socket."""
        check_platform()
        check_socket_room(sockets)
        bell = Bell()
        self._shop = Workshop(
            token=fleet_token(home),
            sockets=sockets.absolute(),
            logs=logs.absolute(),
            quarantine=home.absolute() / "run" / "quarantine",
            packed=home.absolute() / "packages" / ".packed",
            ledger=ledger,
            clock=clock or SystemClock(),
            random=random or Random(),  # noqa: S311 - jitter is not a secret
            settings=settings or FleetSettings(),
            command=command,
            tell=bell.ring,
        )
        self._workers: dict[str, Worker] = {}
        self._wanted: tuple[Placement, ...] = ()
        self._orphans: set[asyncio.Task[None]] = set()
        self._bell = bell
        self._closed = False

    async def adopt(self) -> None:
        """Take over what a former control plane left running, and end what nobody can account for. Returns once each
        adopted worker has answered or has failed to twice: from then on `workers()` says who can take traffic."""
        shop = self._shop
        found = sort_out(shop.ledger.processes(), list(marked_processes(shop.token)))
        adopted = [worker for worker in (self._adopt(*living) for living in found.living) if worker is not None]
        self._forget(found)
        for orphan in found.orphans:
            self._end_stranger(orphan.identity, orphan.process, "no record of it")
        self._sweep_sockets({worker.socket for worker in adopted})
        prune_logs(shop.logs)
        await asyncio.gather(*(worker.supervisor.settled() for worker in adopted))

    async def converge(self, wanted: Collection[Placement]) -> None:
        """Start what is missing, drain and stop what is not wanted any more; see ports.Fleet. A broken worker is
        tried again when its placement has changed. Raises InvalidInput when `wanted` contradicts itself, Unavailable
        after `close`."""
        if self._closed:
            raise Unavailable("the fleet is closed; start the gateway again")
        steps = plan([w.present for w in self._workers.values()], wanted, self._wanted)
        self._wanted = tuple(wanted)
        latest = {single(p): single(p) for p in wanted}  # equal ones differ in what only a start looks at
        for worker in self._workers.values():
            worker.placement = latest.get(worker.placement, worker.placement)
        for worker_id in steps.drain:
            self._workers[worker_id].supervisor.leave()
        for worker_id in steps.revive:
            self._workers[worker_id].supervisor.retry()
        for one, replica in steps.start:
            self._run(Worker(self._shop, one, replica))

    def workers(self) -> tuple[WorkerStatus, ...]:
        """Every worker there is, the draining ones included, sorted by model, version, place and replica."""
        order = sorted(self._workers.values(), key=lambda w: (w.placement.model, w.placement.version, w.id))
        return tuple(worker.status for worker in order)

    async def changed(self, seen: int) -> int:
        """Return the fleet's change counter as soon as it is greater than `seen`."""
        return await self._bell.after(seen)

    def retry(self, model: str, version: int) -> int:
        """Try the broken workers of a version again; returns how many there were."""
        broken = [
            worker
            for worker in self._workers.values()
            if (worker.placement.model, worker.placement.version) == (model, version) and worker.supervisor.retry()
        ]
        return len(broken)

    async def close(self, *, drain: bool) -> None:
        """`drain=True`: end all workers as gently as their time allows; none is left. `drain=False`: let go of them,
        so that they serve on and the next control plane adopts them."""
        self._closed = True
        workers = list(self._workers.values())
        tasks = [worker.task for worker in workers if worker.task is not None]
        for worker in workers:
            if drain:
                worker.supervisor.leave()
            elif worker.task is not None:
                worker.task.cancel()
        if not drain:
            for task in self._orphans:
                task.cancel()
        await asyncio.gather(*tasks, *self._orphans, return_exceptions=True)

    def _run(self, worker: Worker, adopted: Process | None = None, age: float = 0.0) -> None:
        self._workers[worker.id] = worker
        worker.task = asyncio.create_task(self._keep(worker, adopted, age), name=worker.id)
        self._bell.ring()

    async def _keep(self, worker: Worker, adopted: Process | None, age: float) -> None:
        await worker.supervisor.run(adopted, age)
        del self._workers[worker.id]
        self._bell.ring()

    def _adopt(self, record: ProcessRecord, identity: Identity) -> Worker | None:
        mark, place = incarnation(record), placement(record)
        if record.kind is not ProcessKind.WORKER or mark is None:
            return None
        if place is None:
            self._end_stranger(identity, mark, "its record is not readable by this version of Teal")
            return None
        process = attach(identity, mark)
        if process is None:
            return None
        worker = Worker(self._shop, single(place), record.replica, record.socket)
        log.info("worker %s: found running as pid %d, adopted", worker.id, process.pid)
        if record.pid is None:
            self._shop.ledger.save_process(replace(record, pid=identity.pid, start_ticks=identity.start_ticks))
        self._run(worker, process, age=max(self._shop.clock.wall() - record.started_at, 0.0))
        return worker

    def _forget(self, found: Found) -> None:
        for record in found.gone:
            if record.kind is ProcessKind.WORKER:
                self._shop.ledger.forget_process(record.id)

    def _end_stranger(self, identity: Identity, mark: str, why: str) -> None:
        log.warning("ending process %d (%s), left by a former control plane: %s", identity.pid, mark, why)
        process = attach(identity, mark)
        if process is not None:
            task = asyncio.create_task(self._end(process), name=f"end {mark}")
            self._orphans.add(task)
            task.add_done_callback(self._orphans.discard)

    async def _end(self, process: Process) -> None:
        try:
            await process.stop(self._shop.settings.orphan_seconds, self._shop.clock)
        finally:
            process.release()

    def _sweep_sockets(self, in_use: set[str]) -> None:
        for path in self._shop.sockets.glob("w-*.sock"):
            if str(path) not in in_use:
                path.unlink(missing_ok=True)
