"""Workers' memories in memory: a test says who answered what."""

import zlib
from collections.abc import Collection

from contracts.errors import Unavailable
from contracts.names import Color
from deploy.ports import Answered, Recalled, Value, WorkerStatus


class FakeMemories:
    """Honest Recollection. Workers in `silent` (ids) do not answer."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []  # in the order they were given; their place is the moment
        self.silent: set[str] = set()
        self.asked_shares: list[int] = []

    def answered(
        self,
        request_id: str,
        version: int,
        *predicted: Value,
        kind: str | None = "class",
        model: str = "m",
        at: float = 1_800_000_000.0,
    ) -> None:
        color = Color.BLUE if version % 2 else Color.GREEN
        worker = f"{model}-{version}-{color}-0"
        self.answers.append(Answered(request_id, model, version, color, worker, at, len(predicted), kind, predicted))

    async def recall(self, ids: Collection[str], model: str | None = None) -> Recalled:
        found = [a for a in self.answers if a.request_id in ids and model in (None, a.model)]
        return Recalled(tuple(a for a in found if a.worker not in self.silent), tuple(sorted(self.silent)))

    async def since(self, worker: WorkerStatus, after: float | None, share: int) -> tuple[float, tuple[Answered, ...]]:
        if worker.id in self.silent:
            raise Unavailable(f"worker {worker.id} does not answer")
        self.asked_shares.append(share)
        fresh = self.answers[int(after) :] if after is not None else []
        own = [a for a in fresh if a.worker == worker.id and zlib.crc32(a.request_id.encode()) % share == 0]
        return float(len(self.answers)), tuple(own)
