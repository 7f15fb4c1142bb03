"""The load generator tells the truth: every request counts once, with what became of it and since when it was due."""

import asyncio
import json
import math
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from loadtests.load import Load, Outcome, Sample
from loadtests.openloop import load_in_thread, main, run, under_load
from tests.loadtests.misbehaving import Behaviour, answer, fine, hang_up, nothing, serving


def play(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 60))


def outcome_of(behave: Behaviour, **changes: object) -> Outcome:
    found: list[Outcome] = []

    async def story() -> None:
        async with serving(behave) as server:
            found.append(await run(replace(Load(server.url, rate=500, seconds=0.1, body=b"{}"), **changes)))  # type: ignore[arg-type]

    play(story())
    return found[0]


def test_every_request_is_sent_once_and_counted_once():
    async def story() -> None:
        async with serving(fine) as server:
            outcome = await run(
                Load(server.url, rate=1000, seconds=0.2, body=b"[1]", headers=(("x-teal-key", "k{n}"),))
            )
            assert (outcome.sent, outcome.ok, len(server.requests)) == (200, 200, 200)
            assert outcome.versions == {"1": 100, "2": 100}
            assert {r.split(b"x-teal-key: ")[1].split(b"\r\n")[0] for r in server.requests} == {
                b"k%d" % n for n in range(200)
            }
            assert all(r.startswith(b"POST /v1/models/digits:predict HTTP/1.1\r\n") for r in server.requests)
            assert all(r.endswith(b"\r\n\r\n[1]") for r in server.requests)
            assert server.connections <= 64

    play(story())


def test_several_bodies_are_sent_in_turn():
    async def story() -> None:
        async with serving(fine) as server:
            await run(Load(server.url, rate=1000, seconds=0.02, bodies=(b"[1]", b"[22]"), connections=1))
            assert [r.split(b"\r\n\r\n")[1] for r in server.requests] == [b"[1]", b"[22]"] * 10

    play(story())


def test_fresh_connections_are_used_once():
    async def close_after(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(answer("200 OK", "connection: close"))
        writer.close()

    async def story() -> None:
        async with serving(close_after) as server:
            outcome = await run(Load(server.url, rate=300, seconds=0.1, fresh=True))
            assert (outcome.ok, server.connections) == (30, 30)

    play(story())


def test_a_stall_shows_in_the_latency_of_everything_that_was_due_meanwhile():
    """With one connection and one slow answer, a closed loop would report one slow request."""

    async def slow_first(writer: asyncio.StreamWriter, n: int) -> None:
        if n == 0:
            await asyncio.sleep(0.3)
        writer.write(answer())

    outcome = outcome_of(slow_first, connections=1)
    assert outcome.sent == outcome.ok == 50
    assert outcome.quantile(0.5) > 0.15
    assert outcome.lateness > 0.15


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (hang_up, "connection closed before the answer"),
        (nothing, "timeout"),
    ],
)
def test_what_goes_wrong_is_named(behave: Behaviour, failure: str):
    outcome = outcome_of(behave, timeout=0.1)
    assert (outcome.sent, outcome.ok, outcome.failures) == (50, 0, {failure: 50})
    assert math.isnan(outcome.quantile(0.5))


def test_an_error_status_is_a_failure_with_its_number():
    async def overload(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(answer("503 Service Unavailable"))

    assert outcome_of(overload).failures == {"status 503": 50}


def test_half_an_answer_is_a_failure():
    async def half(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        writer.close()

    assert outcome_of(half).failures == {"connection closed within the answer": 50}


def test_what_is_not_http_is_a_failure():
    async def noise(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    (failure,) = outcome_of(noise).failures
    assert failure.startswith("not HTTP: expected a status line")


def test_nobody_listening_is_a_failure_of_every_request():
    async def story() -> None:
        async with serving(fine) as server:
            url = server.url
        outcome = await run(Load(url, rate=500, seconds=0.1, connections=2))
        assert outcome.failures == {"no connection: ConnectionRefusedError": 50}

    play(story())


def test_a_kept_connection_that_the_server_closed_while_idle_is_not_a_failure():
    async def two_each(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(answer("200 OK", *(["connection: close"] if n % 2 else [])))
        if n % 2:
            writer.close()

    assert outcome_of(two_each, rate=100.0, seconds=0.2).ok == 20


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_chunked_and_split_answers_are_read_whole(pieces: int):
    async def chunked(writer: asyncio.StreamWriter, n: int) -> None:
        raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Teal-Version: 7\r\n\r\n"
        raw += b"3;x=y\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\ntrailer: t\r\n\r\n"
        step = math.ceil(len(raw) / pieces)
        for at in range(0, len(raw), step):
            writer.write(raw[at : at + step])
            await writer.drain()
            await asyncio.sleep(0)

    outcome = outcome_of(chunked, seconds=0.02, keep_bodies=True)
    assert [s.body for s in outcome.samples] == [b"abc\r\n\r\n"] * 10
    assert outcome.versions == {"7": 10}


def test_an_answer_that_ends_with_its_connection_is_read_whole():
    async def old(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nold times")
        writer.close()

    outcome = outcome_of(old, seconds=0.02, keep_bodies=True)
    assert [s.body for s in outcome.samples] == [b"old times"] * 10


def test_under_load_stops_with_its_block_and_answers_for_everything_sent():
    async def story() -> None:
        async with serving(fine) as server:
            async with under_load(Load(server.url, rate=500, seconds=60)) as running:
                while len(running.samples) < 10:  # noqa: ASYNC110 - the run has no event for it
                    await asyncio.sleep(0.005)
            assert running.outcome.sent == running.outcome.ok == len(server.requests)
            assert 10 <= running.outcome.sent < 30_000

    play(story())


def test_a_thread_sends_several_loads_while_the_test_blocks():
    async def story() -> None:
        async with serving(fine) as server:
            kept = Load(server.url, rate=200, seconds=0.1)
            with_fresh = replace(kept, fresh=True, connections=4)

            def blocking() -> list[Outcome]:
                with load_in_thread(kept, with_fresh) as outcomes:
                    return outcomes.result(timeout=30)

            first, second = await asyncio.to_thread(blocking)
            assert (first.ok, second.ok) == (20, 20)

    play(story())


class Watchful(asyncio.SelectorEventLoop):
    """Knows the client's connections that were made and those that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.Protocol] = []
        self.ended: list[asyncio.Protocol] = []

    async def create_connection(self, factory: Any, *where: Any, **how: Any) -> Any:
        transport, protocol = await super().create_connection(factory, *where, **how)
        self.made.append(protocol)
        tell = protocol.connection_lost

        def ended(error: Exception | None) -> None:
            self.ended.append(protocol)
            tell(error)

        protocol.connection_lost = ended
        return transport, protocol


@pytest.mark.parametrize("answers", [True, False], ids=["answered early", "given up by cancelling"])
def test_a_connection_whose_peer_reads_no_more_ends_with_its_run(answers: bool):
    """Closed without being aborted it outlived its loop, and uvloop complained in whichever test ran by then."""

    async def story() -> None:
        loop, leave = cast(Watchful, asyncio.get_running_loop()), asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answers:
                writer.write(answer("413 Content Too Large", "connection: close"))
            await leave.wait()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        task = asyncio.create_task(run(Load(url, rate=100, seconds=0.02, body=bytes(32 << 20))))
        while len(loop.made) < 2:  # noqa: ASYNC110 - the loop has no event for it
            await asyncio.sleep(0.001)
        if not answers:
            task.cancel()
        await asyncio.wait([task])
        assert set(loop.made) == set(loop.ended)
        leave.set()
        server.close()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=Watchful) as runner:
        runner.run(asyncio.wait_for(story(), 60))


def test_poisson_arrivals_are_independent_repeatable_and_as_many_on_average():
    load = Load("http://127.0.0.1:1/", rate=1000, seconds=10, poisson=True)
    times = list(load.schedule())
    assert times == list(load.schedule())
    assert times != list(replace(load, seed=2).schedule())
    assert 9_600 < len(times) < 10_400
    assert times == sorted(times)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://example.org/"},
        {"url": "http://8.8.8.8/"},
        {"url": "https://127.0.0.1/"},
        {"url": "not a url"},
        {"rate": 0},
        {"rate": 1e9},
        {"seconds": 601},
        {"rate": 10_000, "seconds": 600},
        {"connections": 0},
        {"connections": 5000},
    ],
)
def test_what_is_out_of_bounds_or_elsewhere_is_refused(changes: dict[str, object]):
    with pytest.raises(ValueError, match="expected"):
        replace(Load("http://localhost:8080/", rate=1, seconds=1), **changes)  # type: ignore[arg-type]


def test_quantiles_are_nearest_rank_of_good_answers():
    good = [Sample(0.0, 0.0, n / 100, 200, "1", "") for n in range(1, 101)]
    outcome = Outcome((*good, Sample(0.0, 0.0, 99.0, 503, "", "")))
    assert [outcome.quantile(q) for q in (0.0, 0.5, 0.99, 1.0)] == [0.01, 0.5, 0.99, 1.0]
    assert (outcome.sent, outcome.ok) == (101, 100)


def test_the_command_reports_and_exits_by_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    body = tmp_path / "body.json"
    body.write_text('{"instances": []}')

    async def story() -> None:
        async with serving(fine) as server:
            common = [server.url, "--rate", "100", "--seconds", "0.1"]
            assert await asyncio.to_thread(main, [*common, "--body", str(body), "--json"]) == 0
            assert server.requests[0].endswith(b'{"instances": []}')
            assert await asyncio.to_thread(main, common) == 0
        assert await asyncio.to_thread(main, common) == 1

    play(story())
    as_json, for_people = capsys.readouterr().out.split("\n", 1)
    assert json.loads(as_json)["ok"] == 10
    assert "10 of 10 answered well" in for_people
    assert "0 of 10 answered well\n  10 x no connection: ConnectionRefusedError" in for_people


def test_the_command_refuses_other_hosts(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["http://example.org/"])
    assert ended.value.code == 2
    assert "an address of this machine" in capsys.readouterr().err
