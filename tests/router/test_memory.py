"""A real Envoy short of memory: who is reset, who is refused and with which words, and who notices nothing."""

import asyncio
import re
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from contracts.limits import LIMITS, MIB
from contracts.names import Color
from tests.router.calls import PREDICT, Caller, caller, frame, predict
from tests.router.gateway import Gateway, alone, backend, gateway, raw, table, until

pytestmark = pytest.mark.e2e

FULL = "the gateway is out of memory for new requests; try again"
REST = "/v1/models/digits:predict"


async def publish(g: Gateway) -> None:
    await g.router.publish(table(alone("digits", backend(1, Color.BLUE, await g.worker("one")))))


async def held(c: Caller, size: int, end: asyncio.Event, begin: asyncio.Event | None = None) -> str:
    """A call that sends `size` bytes after `begin`, and no end before `end`; how it ended, as gRPC calls it."""

    async def message() -> AsyncIterator[bytes]:
        yield b""
        if begin is not None:
            await begin.wait()
        yield b"x" * size
        await end.wait()

    try:
        await c.channel.stream_unary(PREDICT)(message(), timeout=60)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


def test_calls_that_hold_large_messages_are_reset_before_anybody_else_is_refused() -> None:
    async def story() -> None:
        async with gateway(heap_bytes=256 * MIB) as g, caller(g.config.port) as c, caller(g.config.port) as large:
            await publish(g)
            end = asyncio.Event()
            calls = [asyncio.create_task(held(large, 60 * MIB, end)) for _ in range(8)]

            async def served_until_some_are_reset() -> bool:
                assert (await g.post(REST)).status_code == 200
                assert (await c.call(PREDICT, predict("digits"))).code == "OK"
                return any(call.done() for call in calls)

            await until(served_until_some_are_reset, 60)
            for _ in range(20):
                await served_until_some_are_reset()
            end.set()
            ended = await asyncio.gather(*calls)
            # Those that were not reset ended their message, which is no PredictRequest.
            assert {"INTERNAL"} <= set(ended) <= {"INTERNAL", "INVALID_ARGUMENT"}
            padding = frame(2, b"x" * (LIMITS.binary_body - 100))
            for _ in range(3):
                answer = await c.call(PREDICT, padding + predict("digits").SerializeToString())
                assert answer.code == "OK", answer.words

    asyncio.run(story())


def test_when_memory_is_full_of_small_requests_everybody_hears_why() -> None:
    async def story() -> None:
        async with gateway(heap_bytes=32 * MIB) as g, caller(g.config.port) as one, caller(g.config.port) as two:
            await publish(g)
            # Open before memory is full: then Envoy takes no new connections either.
            waiting = [await asyncio.open_connection("127.0.0.1", g.config.port) for _ in range(2)]
            begin, end = asyncio.Event(), asyncio.Event()
            calls = [asyncio.create_task(held(each, MIB // 6, end, begin)) for each in (one, two) for _ in range(100)]
            await until(lambda: all_accepted(g, len(calls)), 60)
            begin.set()
            await until(lambda: full(g), 60)
            rest, grpc_ = [
                await answer(reader, writer, f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-type: {kind}\r\n")
                for (reader, writer), (path, kind) in zip(
                    waiting, ((REST, "application/json"), (PREDICT, "application/grpc")), strict=True
                )
            ]
            end.set()
            await asyncio.gather(*calls)
            assert rest.startswith("HTTP/1.1 503")
            assert "retry-after: 1\r\n" in rest
            assert f'{{"error":"{FULL}"}}' in rest
            assert grpc_.startswith("HTTP/1.1 200")
            assert "grpc-status: 14\r\n" in grpc_
            assert f"grpc-message: {FULL}\r\n" in grpc_

    asyncio.run(story())


async def all_accepted(g: Gateway, calls: int) -> bool:
    return await g.router.admin.requests_under_way() >= calls


async def full(g: Gateway) -> bool:
    found = re.search(rb"fixed_heap_pressure\{[^}]*\} (\d+)", await g.router.admin.prometheus())
    return found is not None and int(found[1]) >= 99


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> str:
    writer.write(f"{head}content-length: 2\r\n\r\n{{}}".encode())
    async with asyncio.timeout(20):
        said = (await reader.read()).decode()
    writer.close()
    return said


def test_messages_are_not_waited_for_over_http_1_where_nobody_could_be_reset() -> None:
    async def story() -> None:
        async with gateway() as g:
            await publish(g)
            head = f"POST {PREDICT} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/grpc\r\n"
            said = await raw(g, f"{head}content-length: 1000000\r\n\r\n".encode() + b"x" * 1000)
            assert said.startswith("HTTP/1.1 200")
            assert "grpc-status: 12\r\n" in said
            assert "gRPC needs HTTP/2" in said

    asyncio.run(story())
