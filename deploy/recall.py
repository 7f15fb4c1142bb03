"""Asks workers what they answered lately, over their own sockets.

Adapter only. What a label or a comparison makes of it is feedback.py, comparing.py and explain.py.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from contracts.errors import Unavailable
from contracts.worker import ANSWERS_TOLD, PATH_ANSWERS
from deploy.asking import Workers
from deploy.ports import Answered, Fleet, Recalled, WorkerState, WorkerStatus

ASKED_AT_ONCE = 16
ASK_SECONDS = 2.0
_REMEMBERING = (WorkerState.READY, WorkerState.DRAINING)


class WorkerRecall:
    """The port Recollection, for the workers that the fleet shows."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._workers = Workers(fleet, ASK_SECONDS)
        self._at_once = asyncio.Semaphore(ASKED_AT_ONCE)

    async def recall(self, ids: Collection[str], model: str | None = None) -> Recalled:
        workers = [
            w for w in self._fleet.workers() if w.state in _REMEMBERING and w.endpoint and model in (None, w.model)
        ]
        told = await asyncio.gather(*(self._answers_to(worker, list(ids)) for worker in workers))
        answers = tuple(answer for each in told if each is not None for answer in each)
        return Recalled(answers, tuple(w.id for w, each in zip(workers, told, strict=True) if each is None))

    async def since(self, worker: WorkerStatus, after: float | None, share: int) -> tuple[float, tuple[Answered, ...]]:
        asked = {"share": share} if after is None else {"share": share, "after": after}
        body, answers = await self._ask(worker, "GET", params=asked)
        return float(body.get("next", 0.0)), answers

    async def close(self) -> None:
        await self._workers.close()

    async def _answers_to(self, worker: WorkerStatus, ids: list[str]) -> list[Answered] | None:
        """None when the worker does not say."""
        answers: list[Answered] = []
        try:
            for start in range(0, len(ids), ANSWERS_TOLD):
                answers += (await self._ask(worker, "POST", json={"ids": ids[start : start + ANSWERS_TOLD]}))[1]
        except Unavailable:
            return None
        return answers

    async def _ask(self, worker: WorkerStatus, method: str, **how: Any) -> tuple[Any, tuple[Answered, ...]]:
        """What a worker says, and the answers in it. Raises Unavailable, also for one that was adopted from another
        release and says something else."""
        async with self._at_once:
            answer = await self._workers.ask(worker, method, PATH_ANSWERS, **how)
        try:
            body = answer.json()
            return body, tuple(_answered(worker, each) for each in body["answers"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"worker {worker.id} does not tell what it answered: is it of another release?"
            ) from error


def _answered(worker: WorkerStatus, told: Mapping[str, Any]) -> Answered:
    return Answered(
        request_id=told["id"],
        model=worker.model,
        version=worker.version,
        color=worker.color,
        worker=worker.id,
        at=told["at"],
        rows=told["rows"],
        kind=told["kind"],
        predicted=tuple(told["predicted"]),
    )
