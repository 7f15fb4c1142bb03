"""The control plane's process: what it is made of, in which order it comes up, and how it goes.

Wiring only. Its death touches nobody's traffic: Envoy and the workers live on and the next start adopts them. Ended
on purpose, it drains and takes them along.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn

from contracts.clock import SystemClock
from contracts.errors import TealError, Unavailable
from deploy.commands import Commands
from deploy.fleet.envoy import EnvoyProcess, EnvoySpec
from deploy.fleet.ledger import ProcessKind
from deploy.fleet.processes import ProcessFleet
from deploy.fleet.procfs import process_stat
from deploy.foresight import Foresight
from deploy.garbage import collect_seldom
from deploy.home import Gateway, Home
from deploy.http.app import application
from deploy.http.facts import Parts
from deploy.manifests import Manifests
from deploy.monitoring.gather import Gathering
from deploy.outcomes import KnownOutcomes
from deploy.pace import Pacer
from deploy.ports import Applied, WorkerState
from deploy.prometheus import PrometheusCounters
from deploy.recall import WorkerRecall
from deploy.reconcile import Reconciler
from deploy.registry.registry import Registry
from deploy.scrape import ScrapedCounters, WorkerScrape
from deploy.settings import Settings, from_environment, prometheus_url
from deploy.store.at_home import name_of, open_store
from deploy.store.store import Store
from deploy.telemetry import Telemetry
from router import bootstrap
from router.bootstrap import EnvoyConfig
from router.router import Router
from router.table import RoutingTable

log = logging.getLogger(__name__)

ADMIN_HOST = "127.0.0.1"
DRAIN_SECONDS = 35.0  # of Envoy: the longest a request may take, and a little
HTTP_GOODBYE_SECONDS = 2  # for answers of the operating port that are under way
LOG_BYTES = 10 << 20


def run(home: Path | str, port: int, admin_port: int, prometheus: str | None = None) -> int:
    """Be the gateway until SIGTERM or SIGINT; return the exit code. Rollouts ask `prometheus` (a URL) for evidence, and
    what they scrape themselves without one. Raises Conflict when one runs on this home already, Unavailable when a port
    is taken or Envoy cannot run, StateUnusable when the state is damaged; nothing that was serving before is touched in
    those cases."""
    settings = from_environment(os.environ)
    if prometheus is not None:
        settings = replace(settings, prometheus=prometheus_url(prometheus))
    place = Home(home)
    with place.gateway_lock(), _listening(ADMIN_HOST, admin_port) as listener:
        _log_to(place)
        asyncio.run(_Plane(place, settings, port, admin_port).run(listener))
    return 0


class _Plane:
    """All parts of one control plane. Built inside its event loop's thread, started by `run`."""

    def __init__(self, home: Home, settings: Settings, port: int, admin_port: int) -> None:
        self._home, self._port, self._admin_port = home, port, admin_port
        self._settings = settings
        self._clock = SystemClock()
        self._config = EnvoyConfig(
            host=settings.host,
            port=port,
            admin_socket=str(home.envoy_admin_socket),
            xds_socket=str(home.xds_socket),
        )

    async def run(self, listener: socket.socket) -> None:
        """Come up, serve until told to stop, and leave."""
        stop = _stop_signals()
        store = open_store(
            self._home,
            self._settings.state_url,
            owner=name_of(self._home),
            kept_rollouts=self._settings.kept_rollouts,
        )
        try:
            await asyncio.to_thread(store.check)
            self._check_port(store)
            async with self._processes(store) as world:
                await self._serve(store, world, listener, stop)
        finally:
            store.close()

    @asynccontextmanager
    async def _processes(self, store: Store) -> "AsyncIterator[_World]":
        """Envoy, workers and the line to Envoy. Left with a TealError or without an error, they end with us; a fault
        of ours, whatever it is, leaves them serving for the next start."""
        telemetry = Telemetry()
        fleet = ProcessFleet(
            home=self._home.path, sockets=self._home.sockets, logs=self._home.logs, ledger=store, clock=self._clock
        )
        router = Router(self._config, clock=self._clock, observer=telemetry)
        envoy = EnvoyProcess(
            self._envoy_spec(router), home=self._home.path, logs=self._home.logs, ledger=store, clock=self._clock
        )
        scrape, recall = WorkerScrape(fleet), WorkerRecall(fleet)
        asked = self._settings.prometheus
        prometheus = None if asked is None else PrometheusCounters(asked)
        drain = False
        try:
            await fleet.adopt()
            await router.start()
            yield _World(fleet, router, envoy, telemetry, scrape, recall, prometheus)
            drain = True
        except TealError:
            drain = True
            raise
        finally:
            await scrape.close()
            await recall.close()
            if prometheus is not None:
                await prometheus.close()
            # Envoy first: it finishes what is under way while the workers still answer.
            await envoy.close(drain=drain)
            await fleet.close(drain=drain)
            await router.stop()
            if drain:  # nobody is left to listen there
                self._home.xds_socket.unlink(missing_ok=True)
                self._home.envoy_admin_socket.unlink(missing_ok=True)

    async def _serve(self, store: Store, world: "_World", listener: socket.socket, stop: asyncio.Event) -> None:
        outcomes = KnownOutcomes(world.recall, world.fleet, self._clock, world.telemetry.rollouts.labelled)
        scraped = ScrapedCounters(world.router.admin.counted, world.fleet, world.scrape, self._clock)
        reconciler = Reconciler(
            store=store,
            fleet=world.fleet,
            traffic=_EnvoyTraffic(world.router),
            counters=scraped,
            prometheus=world.prometheus,
            package_of=lambda digest: str(self._home.package(digest)),
            clock=self._clock,
            onlooker=world.telemetry.rollouts,
            outcomes=outcomes,
        )
        reconciler.first_table()  # remembers whom an Envoy that lived on may still be sending requests to
        # Forecasts are made of what is counted now: what a Prometheus scraped last may be older than their measurement.
        foresight = Foresight(store.deployment, Pacer(scraped, self._clock), self._clock)
        parts = self._parts(store, world, reconciler, foresight, outcomes)
        server = _Server(
            uvicorn.Config(
                application(parts),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=HTTP_GOODBYE_SECONDS,
            )
        )
        try:
            async with asyncio.TaskGroup() as group:
                # Workers (by the first tick), Envoy and the API come up side by side: together they have four seconds.
                lasting = [
                    group.create_task(reconciler.run(), name="reconcile"),
                    group.create_task(outcomes.comparing.run(), name="compare mirrored answers"),
                    group.create_task(_watch(world, reconciler), name="envoy restarts"),
                    group.create_task(_raise_when_hopeless(world.envoy), name="envoy given up"),
                ]
                http = group.create_task(server.serve(sockets=[listener]), name="operating port")
                http.add_done_callback(lambda _: stop.set())  # without its operating port a gateway is not one
                group.create_task(_tidy(parts.registry), name="collect garbage")
                await world.envoy.start()
                collect_seldom()
                self._home.announce(Gateway(os.getpid(), self._port, self._admin_port, self._clock.wall()))
                log.info(
                    "up: predictions on http://127.0.0.1:%d, operating on http://%s:%d, home %s",
                    self._port,
                    ADMIN_HOST,
                    self._admin_port,
                    self._home.path,
                )
                await stop.wait()
                log.info("stopping: finishing what is under way")
                server.should_exit = True
                await http
                for task in lasting:
                    task.cancel()
        except BaseExceptionGroup as failed:
            raise _cause(failed) from failed
        finally:
            self._home.withdraw()

    def _parts(
        self, store: Store, world: "_World", reconciler: Reconciler, foresight: Foresight, outcomes: KnownOutcomes
    ) -> Parts:
        fleet, telemetry, manifests = world.fleet, world.telemetry, Manifests(self._home.package)
        telemetry.watch(Gathering(store, fleet, reconciler))
        return Parts(
            store=store,
            registry=Registry(self._home, store, clock=self._clock),
            fleet=fleet,
            reconciler=reconciler,
            commands=Commands(
                store=store,
                fleet=fleet,
                reconciler=reconciler,
                foresight=foresight,
                clock=self._clock,
                told=telemetry.commanded,
                replicas_of=manifests.replicas_of,
                problems=manifests.problems,
                renamed=manifests.renamed,
            ),
            foresight=foresight,
            telemetry=telemetry,
            clock=self._clock,
            port=self._port,
            admin_port=self._admin_port,
            envoy_state=lambda: _said(world.envoy),
            envoy_ready=world.router.admin.ready,
            envoy_pid=lambda: world.envoy.status.pid,
            envoy_metrics=world.router.admin.prometheus,
            worker_metrics=world.scrape.metrics,
            recollection=world.recall,
            judge=outcomes.judge,
            hosts=self._settings.admin_hosts,
        )

    def _envoy_spec(self, router: Router) -> EnvoySpec:
        path = self._home.run / "envoy.json"

        async def drain() -> None:
            await router.admin.drain(DRAIN_SECONDS)

        return EnvoySpec(
            argv=tuple(bootstrap.argv(self._config, path)),
            digest=bootstrap.digest(self._config),
            write=lambda: bootstrap.write(self._config, path),
            ready=router.admin.ready,
            drain=drain,
        )

    def _check_port(self, store: Store) -> None:
        """Raise Unavailable when somebody else serves on the predictions port. Asked before Envoy is started, because
        Envoy shares its port with any other process of this user that allows it, and both would get half."""
        ours = [r.pid for r in store.processes() if r.kind is ProcessKind.ENVOY and r.pid is not None]
        if any(process_stat(pid) is not None for pid in ours):
            return  # our own Envoy, to be adopted or replaced
        with _listening(self._settings.host, self._port):
            return


@dataclass(frozen=True)
class _World:
    """What runs outside this process, and who counts it."""

    fleet: ProcessFleet
    router: Router
    envoy: EnvoyProcess
    telemetry: Telemetry
    scrape: WorkerScrape
    recall: WorkerRecall
    prometheus: PrometheusCounters | None


class _EnvoyTraffic:
    """The router as the port Traffic."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def publish(self, table: RoutingTable) -> Applied:
        published = await self._router.publish(table)
        return Applied(published.version, published.seconds)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: stopping this process is more than stopping its API."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _watch(world: _World, reconciler: Reconciler) -> None:
    """Count Envoy's restarts, and publish to a fresh one without waiting for a pause to end."""
    seen, restarts = 0, world.envoy.status.restarts
    while True:
        seen = await world.envoy.changed(seen)
        status = world.envoy.status
        for _ in range(status.restarts - restarts):
            world.telemetry.envoy_restarted()
        restarts = max(restarts, status.restarts)
        reconciler.ring()


async def _tidy(registry: Registry) -> None:
    """Leftovers cost space, nothing else: what keeps us from removing them keeps nobody from serving."""
    try:
        await asyncio.to_thread(registry.collect_garbage)
    except (OSError, TealError):
        log.exception("could not remove leftovers of interrupted registrations; it is tried again at the next start")


async def _raise_when_hopeless(envoy: EnvoyProcess) -> None:
    raise Unavailable(await envoy.given_up())


def _said(envoy: EnvoyProcess) -> str:
    status = envoy.status
    return "ready" if status.state is WorkerState.READY else f"{status.state.value}: {status.reason}"


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _cause(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of: the first one meant for people, else the first."""
    flat = list(_leaves(failed))
    return next((error for error in flat if isinstance(error, TealError)), flat[0])


def _leaves(failed: BaseExceptionGroup[BaseException]) -> Generator[BaseException, None, None]:
    for error in failed.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket, None, None]:
    """A listening socket. Raises Unavailable when the port is taken or not ours to take."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}. "
                "Stop what uses that port, or choose others with --port and --admin-port"
            ) from error
        yield listener


def _log_to(home: Home) -> None:
    """Everything goes to HOME/logs/control.log, and to standard error for the person who started this."""
    words = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handlers: list[logging.Handler] = [
        RotatingFileHandler(home.logs / "control.log", maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8"),
        logging.StreamHandler(),
    ]
    for handler in handlers:
        handler.setFormatter(words)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per scrape is no news
