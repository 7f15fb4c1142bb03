"""A fleet in memory. Workers start when told to become ready, so a test decides who is warm and who dies."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from contracts.names import Color
from deploy.ports import Placement, WorkerState, WorkerStatus


class FakeFleet:
    """Honest Fleet: converge starts and drains, and keeps what drains until `drained` is called.

    With `instantly` workers are ready as soon as they are wanted, and gone as soon as they are not."""

    def __init__(self, *, instantly: bool = False) -> None:
        self.instantly = instantly
        self.wanted: tuple[Placement, ...] = ()
        self._workers: dict[str, WorkerStatus] = {}
        self._counter = 0
        self._bell = asyncio.Event()

    async def converge(self, wanted: Collection[Placement]) -> None:
        self.wanted = tuple(wanted)
        ids = {f"{p.model}-{p.version}-{p.color}-{n}": p for p in wanted for n in range(p.replicas)}
        changed = False
        for worker_id, placement in ids.items():
            found = self._workers.get(worker_id)
            if found is None or found.state is WorkerState.DRAINING:
                self._workers[worker_id] = _starting(worker_id, placement)
                changed = True
        for worker_id in [w for w in self._workers if w not in ids]:
            if self.instantly:
                del self._workers[worker_id]
                changed = True
            elif self._workers[worker_id].state is not WorkerState.DRAINING:
                self._set(worker_id, WorkerState.DRAINING, "not wanted any more")
        if self.instantly:
            self.ready()
        if changed:
            self._ring()

    def workers(self) -> tuple[WorkerStatus, ...]:
        return tuple(self._workers[key] for key in sorted(self._workers))

    async def changed(self, seen: int) -> int:
        while self._counter <= seen:
            await self._bell.wait()
        return self._counter

    # what a test does to it

    def ready(self, model: str | None = None, version: int | None = None) -> None:
        """Everything that starts (of this version) becomes ready."""
        for worker in self.workers():
            if worker.state in (WorkerState.STARTING, WorkerState.WAITING) and _is(worker, model, version):
                self._set(worker.id, WorkerState.READY, "ready")

    def die(self, worker_id: str) -> None:
        """One worker dies and waits for its restart."""
        self._workers[worker_id] = replace(self._workers[worker_id], restarts=self._workers[worker_id].restarts + 1)
        self._set(worker_id, WorkerState.WAITING, "killed by signal 9; starts again in 0.2 s")

    def break_down(self, model: str, version: int, reason: str) -> None:
        """Workers of a version will not start again."""
        for worker in self.workers():
            if _is(worker, model, version):
                self._set(worker.id, WorkerState.BROKEN, reason)

    def drained(self) -> None:
        """Everything that drains is gone."""
        self._workers = {k: w for k, w in self._workers.items() if w.state is not WorkerState.DRAINING}
        self._ring()

    def _set(self, worker_id: str, state: WorkerState, reason: str) -> None:
        self._workers[worker_id] = replace(self._workers[worker_id], state=state, reason=reason)
        self._ring()

    def _ring(self) -> None:
        self._counter += 1
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()


def _is(worker: WorkerStatus, model: str | None, version: int | None) -> bool:
    return model in (None, worker.model) and version in (None, worker.version)


def _starting(worker_id: str, placement: Placement) -> WorkerStatus:
    return WorkerStatus(
        id=worker_id,
        model=placement.model,
        version=placement.version,
        color=Color(placement.color),
        state=WorkerState.STARTING,
        endpoint=f"/run/{worker_id}.sock",
        pid=1000 + len(worker_id),
        restarts=0,
        reason="loading the model",
    )
