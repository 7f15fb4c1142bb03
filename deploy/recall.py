"""Asks workers what they answered lately, over their own sockets.

Adapter only. What a label or a comparison makes of it is feedback.py, comparing.py and explain.py.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import httpx

from contracts.errors import Unavailable
from contracts.worker import ANSWERS_TOLD, PATH_ANSWERS
from deploy.ports import Answered, Fleet, Recalled, WorkerState, WorkerStatus

ASKED_AT_ONCE = 16
ASK_SECONDS = 2.0
_REMEMBERING = (WorkerState.READY, WorkerState.DRAINING)


class WorkerRecall:
    """The port Recollection, for the workers that the fleet shows. Keeps one connection to each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._clients: dict[str, httpx.AsyncClient] = {}  # by socket
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
        body = await self._ask(worker, "GET", params=asked)
        return body["next"], tuple(_answered(worker, each) for each in body["answers"])

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _answers_to(self, worker: WorkerStatus, ids: list[str]) -> list[Answered] | None:
        """None when the worker does not say."""
        answers: list[Answered] = []
        try:
            for start in range(0, len(ids), ANSWERS_TOLD):
                body = await self._ask(worker, "POST", json={"ids": ids[start : start + ANSWERS_TOLD]})
                answers += [_answered(worker, each) for each in body["answers"]]
        except Unavailable:
            return None
        return answers

    async def _ask(self, worker: WorkerStatus, method: str, **how: Any) -> Any:
        async with self._at_once:
            client = await self._client(worker.endpoint)
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    answer = await client.request(method, f"http://worker{PATH_ANSWERS}", **how)
            except (httpx.HTTPError, TimeoutError) as error:
                raise Unavailable(f"worker {worker.id} does not answer: {error or type(error).__name__}") from error
        if answer.status_code != 200:
            raise Unavailable(f"worker {worker.id} does not say what it answered: {answer.status_code}")
        return answer.json()

    async def _client(self, endpoint: str) -> httpx.AsyncClient:
        if endpoint not in self._clients:
            here = {w.endpoint for w in self._fleet.workers()}
            for gone in self._clients.keys() - here:
                await self._clients.pop(gone).aclose()
            transport = httpx.AsyncHTTPTransport(uds=endpoint)
            self._clients[endpoint] = httpx.AsyncClient(transport=transport, timeout=ASK_SECONDS)
        return self._clients[endpoint]


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
