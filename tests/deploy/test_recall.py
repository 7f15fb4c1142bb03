"""Asking workers over their sockets: those that remember, those that say something else, and those that are gone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import Unavailable
from contracts.names import Color
from deploy.ports import WorkerState, WorkerStatus
from deploy.recall import WorkerRecall

ANSWER = {"id": "a", "at": 1.5, "rows": 1, "kind": "class", "predicted": [3]}


class Fleet:
    """Workers whose endpoints a test names."""

    def __init__(self, **endpoints: str) -> None:
        self._workers = tuple(
            WorkerStatus(name, "m" if name == "one" else "n", 1, Color.BLUE, WorkerState.READY, path, 1, 0, "")
            for name, path in endpoints.items()
        )

    def workers(self) -> tuple[WorkerStatus, ...]:
        return self._workers


@asynccontextmanager
async def saying(path: Path, body: Any, status: int = 200) -> AsyncIterator[list[bytes]]:
    """A worker's socket that answers everything alike, and what it was asked."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []
    text = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
                asked.append(head + (await reader.readexactly(int(length[0].split()[1])) if length else b""))
                writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(text)) + text)
                await writer.drain()

    server = await asyncio.start_unix_server(answer, str(path))
    try:
        yield asked
    finally:
        server.close()
        await server.wait_closed()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


@asynccontextmanager
async def recalling(fleet: Fleet) -> AsyncIterator[WorkerRecall]:
    recall = WorkerRecall(fleet)  # type: ignore[arg-type]  # it only asks who there is
    try:
        yield recall
    finally:
        await recall.close()


def test_every_worker_is_asked_and_those_that_do_not_answer_are_named(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(one=str(tmp_path / "one"), two=str(tmp_path / "gone"))
        async with saying(tmp_path / "one", {"answers": [ANSWER]}) as asked, recalling(fleet) as recall:
            recalled = await recall.recall(["a", "b"])
            (answer,) = recalled.answers
            assert (answer.request_id, answer.model, answer.worker, answer.predicted) == ("a", "m", "one", (3,))
            assert recalled.silent == ("two",)
            assert b'"ids":["a","b"]' in asked[0].replace(b" ", b"")
            assert (await recall.recall(["a"], "m")).silent == ()

    told(story)


def test_answers_since_a_moment_come_with_where_to_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        fleet = Fleet(one=str(tmp_path / "one"))
        body = {"next": 7.25, "answers": [ANSWER]}
        async with saying(tmp_path / "one", body) as asked, recalling(fleet) as recall:
            after, answers = await recall.since(fleet.workers()[0], 5.5, 4)
            assert (after, [a.request_id for a in answers]) == (7.25, ["a"])
            await recall.since(fleet.workers()[0], None, 4)
            assert b"share=4&after=5.5" in asked[0]
            assert b"after" not in asked[1]

    told(story)


@pytest.mark.parametrize(
    ("status", "body"), [(404, {}), (200, b"not json"), (200, {"answers": [{}]}), (200, {}), (200, [])]
)
def test_a_worker_of_another_release_is_silent_and_breaks_nothing(tmp_path: Path, status: int, body: Any) -> None:
    async def story() -> None:
        fleet = Fleet(one=str(tmp_path / "one"))
        async with saying(tmp_path / "one", body, status), recalling(fleet) as recall:
            assert (await recall.recall(["a"])).silent == ("one",)
            with pytest.raises(Unavailable, match="worker one"):
                await recall.since(fleet.workers()[0], None, 1)

    told(story)
