"""The gateway's own scraper: what the real Envoy counted of requests that were really sent, and workers that hang."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from contracts.clock import SystemClock
from contracts.errors import NotFound, Unavailable
from contracts.names import Color
from contracts.traffic import Mirror
from deploy import scrape as scraping
from deploy.evidence.blocks import Arm
from deploy.evidence.counters import Gap, GapKind, Kind, Looked, Source, Told
from deploy.evidence.pairing import Both, Stretch, anchor, stretch
from deploy.ports import WorkerState, WorkerStatus
from deploy.scrape import ScrapedCounters, WorkerScrape
from router import envoy as admin
from tests.router.gateway import Gateway, alone, backend, both, gateway, table, until

PAGE = 'teal_batches_total{{model="m",version="{version}",color="blue",outcome="ok"}} {runs}.0\n'


@dataclass
class Exporter:
    """A worker's socket with a page of metrics; `hang` keeps callers waiting, `status` is what it answers with."""

    socket: Path
    page: str = ""
    status: int = 200
    hang: bool = False
    connections: int = 0
    _server: asyncio.Server | None = None
    _held: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._held:
            writer.transport.abort()
        await asyncio.sleep(0)
        self.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._held.add(writer)
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /metrics "):
                if self.hang:
                    await asyncio.Event().wait()
                text = self.page.encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (self.status, len(text)) + text)
                del head
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()


@dataclass
class Fleet:
    """The port Fleet, as far as somebody looks at it."""

    here: tuple[WorkerStatus, ...] = ()

    async def converge(self, wanted: object) -> None:
        raise AssertionError("nobody is started here")

    async def changed(self, seen: int) -> int:
        raise AssertionError("nobody waits here")

    def workers(self) -> tuple[WorkerStatus, ...]:
        return self.here


def status(number: int, exporter: Exporter | None, state: WorkerState = WorkerState.READY) -> WorkerStatus:
    endpoint = "" if exporter is None else str(exporter.socket)
    return WorkerStatus(f"m-1-blue-{number}", "m", 1, Color.BLUE, state, endpoint, 1, 0, "it starts")


@asynccontextmanager
async def workers(*pages: str) -> AsyncIterator[tuple[Fleet, WorkerScrape, list[Exporter]]]:
    with tempfile.TemporaryDirectory(prefix="teal-s-") as folder:
        exporters = [Exporter(Path(folder) / f"{i}.sock", page) for i, page in enumerate(pages)]
        for each in exporters:
            await each.start()
        fleet = Fleet(tuple(status(i, each) for i, each in enumerate(exporters)))
        scrape = WorkerScrape(fleet)
        try:
            yield fleet, scrape, exporters
        finally:
            await scrape.close()
            for each in exporters:
                await each.stop()


async def no_envoy(models: object, statistics: str) -> list[str]:
    return ["envoy_server_uptime{} 5\n"]


async def silent_envoy(models: object, statistics: str) -> list[str]:
    raise Unavailable("Envoy's admin did not answer")


def test_a_worker_is_scraped_over_one_kept_connection_and_again_after_a_restart():
    async def story() -> None:
        async with workers("a 1\n") as (_, scrape, [exporter]):
            for _ in range(5):
                assert await scrape.metrics("m-1-blue-0") == b"a 1\n"
            assert exporter.connections == 1
            await exporter.stop()
            with pytest.raises(Unavailable, match="m-1-blue-0 does not answer"):
                await scrape.metrics("m-1-blue-0")
            exporter.page = "a 2\n"
            await exporter.start()
            assert await scrape.metrics("m-1-blue-0") == b"a 2\n"

    asyncio.run(story())


def test_who_cannot_be_scraped_is_named_with_the_reason():
    async def story() -> None:
        async with workers("a 1\n") as (fleet, scrape, [exporter]):
            with pytest.raises(NotFound, match="there are: m-1-blue-0"):
                await scrape.metrics("m-9-blue-0")
            fleet.here += (status(1, None, WorkerState.STARTING),)
            with pytest.raises(Unavailable, match="m-1-blue-1 is starting: it starts"):
                await scrape.metrics("m-1-blue-1")
            exporter.status = 503
            with pytest.raises(Unavailable, match="answered /metrics with 503"):
                await scrape.metrics("m-1-blue-0")

    asyncio.run(story())


def test_connections_to_workers_that_are_gone_are_given_up():
    async def story() -> None:
        async with workers("a 1\n", "a 2\n") as (fleet, scrape, exporters):
            await scrape.metrics("m-1-blue-0")
            fleet.here = (status(1, exporters[1]),)
            await scrape.metrics("m-1-blue-1")
            assert list(scrape._workers._clients) == [str(exporters[1].socket)]

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["hangs", "fails", "says something else"])
def test_a_worker_that_does_not_answer_is_a_gap_and_holds_up_no_other(fault: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scraping, "SCRAPE_SECONDS", 0.5)

    async def story() -> None:
        async with workers(PAGE.format(version=1, runs=3), "") as (fleet, scrape, [_, second]):
            second.hang, second.status = fault == "hangs", 500 if fault == "fails" else 200
            counters = ScrapedCounters(no_envoy, fleet, scrape, SystemClock())
            sample = (await counters.look([("m", 1)])).samples["m", 1]
            assert isinstance(sample[Source(Kind.WORKER, "m-1-blue-0")], Told)
            gap = sample[Source(Kind.WORKER, "m-1-blue-1")]
            assert isinstance(gap, Gap)
            assert (gap.kind, "m-1-blue-1" in gap.reason) == (GapKind.MISSING, True)

    asyncio.run(story())


def test_workers_that_take_no_requests_are_not_asked():
    async def story() -> None:
        async with workers(PAGE.format(version=1, runs=3)) as (fleet, scrape, [exporter]):
            fleet.here = (status(0, exporter, WorkerState.DRAINING),)
            sample = (await ScrapedCounters(no_envoy, fleet, scrape, SystemClock()).look([("m", 1)])).samples["m", 1]
            assert not [source for source in sample if source.kind is Kind.WORKER]

    asyncio.run(story())


def test_an_envoy_that_does_not_answer_is_no_evidence_at_all():
    async def story() -> None:
        async with workers(PAGE.format(version=1, runs=3)) as (fleet, scrape, _):
            with pytest.raises(Unavailable, match="Envoy's admin"):
                await ScrapedCounters(silent_envoy, fleet, scrape, SystemClock()).look([("m", 1)])

    asyncio.run(story())


def test_a_long_page_is_read_as_a_short_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scraping, "LONG", 0)

    async def story() -> None:
        async with workers(PAGE.format(version=1, runs=3)) as (fleet, scrape, _):
            looked = await ScrapedCounters(no_envoy, fleet, scrape, SystemClock()).look([("m", 1)])
            assert {source.kind for source in looked.samples["m", 1]} == set(Kind)

    asyncio.run(story())


# With the real Envoy.

BOTH = [("m", 1), ("m", 2)]


async def counted(g: Gateway, before: Looked, after: Looked, *, mirrored: bool = False) -> Stretch:
    begun = anchor(Both(before.samples["m", 1], before.samples["m", 2], mirrored))
    assert not isinstance(begun, Gap)
    found = stretch(begun, Both(after.samples["m", 1], after.samples["m", 2], mirrored))
    assert not isinstance(found, Gap), found
    return found[1]


def with_envoy(story: Callable[[Gateway, ScrapedCounters], Awaitable[None]]) -> None:
    async def run() -> None:
        async with gateway() as g:
            fleet = Fleet()
            await story(g, ScrapedCounters(g.router.admin.counted, fleet, WorkerScrape(fleet), SystemClock()))

    asyncio.run(run())


@pytest.mark.e2e
def test_what_the_real_envoy_counted_is_what_was_sent_by_way_and_outcome():
    async def story(g: Gateway, counters: ScrapedCounters) -> None:
        one, two = await g.worker("one"), await g.worker("two")
        split = both("m", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0)
        await g.router.publish(table(split, alone("m2", backend(1, Color.BLUE, one))))
        before = await counters.look(BOTH)
        for _ in range(7):
            await g.post("/v1/models/m:predict")
            await g.post("/v1/models/m2:predict")
        one.behaviour.status = 400
        await g.post("/v1/models/m:predict")
        one.behaviour.status = 500
        for _ in range(2):
            await g.post("/v1/models/m:predict")
        await g.post("/v1/models/m/versions/2:predict")
        await until(lambda: len(two.seen) == 1)
        found = await counted(g, before, await counters.look(BOTH))
        assert found.counted.errors.live == Arm(9, 2)
        assert found.counted.errors.candidate == Arm(0, 0), "a request that names its version is no evidence"
        assert found.counted.slower[-1].live.bad == 0

    with_envoy(story)


@pytest.mark.e2e
def test_a_caller_who_leaves_is_slower_than_every_bound_and_fails_nothing():
    async def story(g: Gateway, counters: ScrapedCounters) -> None:
        one, two = await g.worker("one"), await g.worker("two")
        await g.router.publish(table(both("m", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0)))
        before = await counters.look(BOTH)
        one.behaviour.delay = 30
        async with httpx.AsyncClient(base_url=g.client.base_url) as hasty:
            for _ in range(3):
                with pytest.raises(httpx.TimeoutException):
                    await hasty.post("/v1/models/m:predict", content=b"{}", timeout=0.2)
        await until(lambda: one.waiting == 0)
        found = await counted(g, before, await counters.look(BOTH))
        assert found.counted.errors.live == Arm(0, 0)
        assert {block.live for block in found.counted.slower} == {Arm(3, 3)}

    with_envoy(story)


@pytest.mark.e2e
def test_mirrored_copies_are_counted_apart_from_what_the_candidate_serves():
    async def story(g: Gateway, counters: ScrapedCounters) -> None:
        one, two = await g.worker("one"), await g.worker("two")
        routes = both("m", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0)
        await g.router.publish(table(replace(routes, mirror=Mirror(Color.GREEN, 10_000))))
        before = await counters.look(BOTH)
        two.behaviour.status = 500
        for _ in range(6):
            assert (await g.post("/v1/models/m:predict")).status_code == 200

        async def copied() -> bool:  # Envoy counts a copy when it was answered, and nobody waits for that
            after = await counters.look(BOTH)
            return (await counted(g, before, after, mirrored=True)).counted.errors.candidate == Arm(6, 6)

        await until(copied)
        after = await counters.look(BOTH)
        assert (await counted(g, before, after)).counted.errors.candidate == Arm(0, 0)

    with_envoy(story)


@pytest.mark.e2e
def test_an_envoy_that_was_replaced_is_seen_to_have_been_even_when_it_has_counted_more_since():
    async def story(g: Gateway, counters: ScrapedCounters) -> None:
        one, two = await g.worker("one"), await g.worker("two")
        routes = table(both("m", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0))
        await g.router.publish(routes)
        await g.post("/v1/models/m:predict")
        await until(lambda: uptime_of(counters, 2.0), 20)
        before = await counters.look(BOTH)
        await g.kill_envoy()
        await g.start_envoy()
        await until(g.router.admin.ready)
        await g.router.publish(routes)
        for _ in range(4):
            await g.post("/v1/models/m:predict")
        found = await counted(g, before, await counters.look(BOTH))
        assert found.counted.errors.live == Arm(4, 0)
        assert found.broken

    async def uptime_of(counters: ScrapedCounters, least: float) -> bool:
        told = (await counters.look(BOTH)).samples["m", 1][Source(Kind.SPLIT, "envoy")]
        return isinstance(told, Told) and told.life >= least

    with_envoy(story)


@pytest.mark.e2e
def test_more_models_than_one_question_holds_are_asked_for_in_several(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admin, "MOST_LETTERS", 20)

    async def story(g: Gateway, counters: ScrapedCounters) -> None:
        one = await g.worker("one")
        names = [f"model-{i}.{'x' * (i + 1)}" for i in range(6)]
        await g.router.publish(table(*(alone(name, backend(1, Color.BLUE, one)) for name in names)))
        for name in names:
            assert (await g.post(f"/v1/models/{name}:predict")).status_code == 200
        looked = await counters.look([(name, 1) for name in names])
        for name in names:
            told = looked.samples[name, 1][Source(Kind.SPLIT, "envoy")]
            assert isinstance(told, Told)
            assert sum(value for series, value in told.counts.items() if series.fact == "answered") == 1

    with_envoy(story)
