"""The same against a real Prometheus (Debian's package) that scrapes every fifth of a second: down, restarted, slow
scrapes, targets that are down, processes that begin anew."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import pytest

from contracts.errors import Unavailable
from deploy.evidence.blocks import NOTHING
from deploy.evidence.counters import Gap, GapKind
from deploy.evidence.opinions import Line, follow
from deploy.evidence.pairing import Both, Stretch
from deploy.prometheus import PrometheusCounters
from tests.deploy.test_prometheus_source import envoy, worker
from tests.prometheus import LIMIT, free_port, needs_prometheus

pytestmark = [pytest.mark.e2e, needs_prometheus]

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
{jobs}
"""
JOB = """
- job_name: {job}-{instance}
  metrics_path: /{instance}
  static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{job: {job}, instance: {instance}}}}}]
"""
TARGETS = {"envoy": "teal-envoy", "digits-1-blue-0": "teal-worker", "digits-2-green-0": "teal-worker"}


@dataclass
class Gateway:
    """What is scraped. With `traffic`, every scrape of Envoy finds nine more answers of version 1 and one of 2."""

    traffic: bool = False
    answered: int = 1000
    uptime: float = 100.0
    down: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    released: Event = field(default_factory=Event)

    def page(self, instance: str) -> str | None:
        if instance in self.slow:
            self.released.wait(5)
        if instance in self.down:
            return None
        if instance == "envoy":
            self.answered += self.traffic
            self.uptime += 0.2
            found = envoy(9 * self.answered, self.answered, uptime=self.uptime)
        else:
            found = worker(int(instance.split("-")[1]), self.answered)
        return "".join(f"{series} {value}\n" for series, value in found.items())

    def begin_anew(self) -> None:
        self.answered, self.uptime = 3, 0.0


@contextmanager
def exporting(gateway: Gateway) -> Iterator[int]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = gateway.page(self.path.strip("/"))
            body = (page or "").encode()
            try:
                self.send_response(503 if page is None else 200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # whoever scrapes did not wait

        def log_message(self, *_: object) -> None:
            """The test's output stays the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        gateway.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Server:
    """A Prometheus that can be killed and started again on the same data."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        words = ["prometheus", f"--config.file={self.folder / 'prometheus.yml'}"]
        words += [f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        with (self.folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Watching:
    """One rollout that asks the real thing."""

    def __init__(self, gateway: Gateway, server: Server) -> None:
        self.gateway = gateway
        self.server = server
        self._loop = asyncio.Runner()
        self._counters = PrometheusCounters(f"http://127.0.0.1:{server.port}")
        self.line = Line()

    def told(self, model: str = "digits") -> Stretch | Gap:
        try:
            looked = self._loop.run(self._counters.look([(model, 1), (model, 2)]))
        except Unavailable as error:
            heard: Both | Gap = Gap(error.message, GapKind.UNAVAILABLE)
        else:
            heard = Both(looked.samples.get((model, 1), {}), looked.samples.get((model, 2), {}), at=looked.at)
        self.line, said = follow(self.line, heard)
        return said

    def until(self, holds: Callable[[Stretch | Gap], bool]) -> list[Stretch]:
        """Look until `holds`; the stretches that were told meanwhile, that one included."""
        deadline, found = time.monotonic() + LIMIT, []
        while True:
            said = self.told()
            found += [said] if isinstance(said, Stretch) else []
            if holds(said):
                return found
            assert time.monotonic() < deadline, f"not within {LIMIT:g} s; last: {said}"
            time.sleep(0.02)

    def begun(self) -> None:
        """It tells stretches in which nothing happens."""
        self.gateway.traffic = False
        self.line = Line()
        self.until(quiet)

    def close(self) -> None:
        self._loop.run(self._counters.close())
        self._loop.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    gateway, folder = Gateway(), tmp_path_factory.mktemp("prometheus")
    with exporting(gateway) as port:
        jobs = "".join(JOB.format(job=job, instance=instance, port=port) for instance, job in TARGETS.items())
        (folder / "prometheus.yml").write_text(CONFIG.format(jobs=jobs))
        server = Server(folder, free_port())
        here = Watching(gateway, server)
        server.start()
        try:
            yield here
        finally:
            server.kill()
            here.close()


@pytest.fixture
def watching(running: Watching) -> Iterator[Watching]:
    running.begun()
    yield running
    running.gateway.down.clear()
    running.gateway.slow.clear()


def quiet(said: Stretch | Gap) -> bool:
    return isinstance(said, Stretch) and said.counted.errors == NOTHING and not said.counted.partial


def busy(said: Stretch | Gap) -> bool:
    return isinstance(said, Stretch) and said.counted.errors.candidate.units > 0


def of_kind(kind: GapKind) -> Callable[[Stretch | Gap], bool]:
    return lambda said: isinstance(said, Gap) and said.kind is kind


def units(found: list[Stretch]) -> tuple[int, int]:
    live = sum(stretch.counted.errors.live.units for stretch in found)
    return live, sum(stretch.counted.errors.candidate.units for stretch in found)


def test_what_was_scraped_is_told_once_and_to_the_last_request(watching: Watching) -> None:
    before = watching.gateway.answered
    watching.gateway.traffic = True
    found = watching.until(lambda _: watching.gateway.answered > before + 20)
    watching.gateway.traffic = False
    found += watching.until(quiet)
    more = watching.gateway.answered - before
    assert units(found) == (9 * more, more)
    assert all(a.until == b.since for a, b in pairwise(found))
    assert sum(stretch.counted.batches.live.units for stretch in found) > 0
    assert not any(stretch.broken for stretch in found)


def test_a_model_that_nobody_scraped_is_missing_and_not_idle(watching: Watching) -> None:
    watching.line = Line()
    said = watching.told("unheard-of")
    assert isinstance(said, Gap)
    assert said.kind is GapKind.MISSING


@pytest.mark.parametrize("how", ["down", "slow"])
def test_an_envoy_that_cannot_be_scraped_is_a_gap_and_what_it_counted_then_is_nobodys(
    watching: Watching, how: str
) -> None:
    getattr(watching.gateway, how).add("envoy")
    found = watching.until(of_kind(GapKind.MISSING))
    watching.gateway.answered += 50_000
    getattr(watching.gateway, how).clear()
    watching.gateway.released.set()
    watching.gateway.released = Event()
    found += watching.until(quiet)
    assert units(found) == (0, 0)


@pytest.mark.parametrize("instance", ["digits-1-blue-0", "digits-2-green-0"])
def test_a_worker_that_cannot_be_scraped_takes_the_engine_runs_of_both_versions_out(
    watching: Watching, instance: str
) -> None:
    watching.gateway.traffic = True
    watching.gateway.down.add(instance)
    watching.until(lambda said: isinstance(said, Stretch) and instance in said.counted.partial)
    said = watching.until(busy)[-1]
    assert said.counted.batches == NOTHING
    watching.gateway.down.clear()
    watching.until(lambda said: isinstance(said, Stretch) and not said.counted.partial)


def test_processes_that_begin_anew_count_what_they_did_since(watching: Watching) -> None:
    watching.gateway.begin_anew()
    found = watching.until(lambda said: isinstance(said, Stretch) and said.broken)
    assert units(found) == (27, 3)
    assert units(watching.until(quiet)) == (0, 0)


def test_a_prometheus_that_is_killed_is_no_evidence_and_goes_on_where_it_was_without_counting_twice(
    watching: Watching,
) -> None:
    before = watching.gateway.answered
    watching.gateway.traffic = True
    found = watching.until(busy)
    watching.server.kill()
    found += watching.until(of_kind(GapKind.UNAVAILABLE))
    watching.server.start()
    found += watching.until(lambda said: isinstance(said, Stretch) and not said.counted.partial)
    watching.gateway.traffic = False
    found += watching.until(quiet)
    live, candidate = units(found)
    assert 0 < candidate <= watching.gateway.answered - before
    assert live == 9 * candidate
    assert all(a.until <= b.since for a, b in pairwise(found))
