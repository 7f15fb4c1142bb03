"""One worker's life: listen, verify, load, warm, serve, drain, exit. The wiring of `serving` is here, in the open."""

import asyncio
import contextlib
import faulthandler
import gc
import importlib.metadata
import logging
import signal
import time
from pathlib import Path

import uvloop

from contracts.clock import Clock, SystemClock
from contracts.errors import TealError
from contracts.limits import LIMITS
from contracts.package import Manifest, verify
from contracts.worker import EXIT_BAD_PACKAGE, EXIT_CRASHED, EXIT_DRAINED, WorkerSpec
from serving.batching.batcher import MicroBatcher
from serving.engine.base import Engine
from serving.engine.opening import open_engine, sizing
from serving.engine.samples import read_samples
from serving.engine.scratch import ScratchEngine
from serving.engine.thread import EngineThread
from serving.http.app import App, Served
from serving.http.dialects import Dialects
from serving.http.pages import Pages
from serving.http.pictures import Pictures, open_pictures
from serving.listen import Listener
from serving.memory import Memory
from serving.poison.guard import Guard
from serving.poison.journal import open_journal
from serving.poison.records import Records
from serving.priority import Usual, come_back
from serving.server import WorkerServer
from serving.state import Identity, Stage, State
from serving.telemetry import Telemetry
from serving.warmup import Costs, warm_up

_log = logging.getLogger(__name__)

# How long a draining worker still takes new requests: Envoy learns by health check, every second, that it should go
# elsewhere, and what it sent in the meantime must be answered.
_GRACE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 1.0  # for the answers of callers whose engine run hangs
_HEARTBEAT_SECONDS = 5.0
_STALL_SECONDS = 60.0  # an event loop that stands still for longer will not come back


class Worker:
    """Serves one version until told to stop. `run` returns the exit code."""

    def __init__(self, spec: WorkerSpec, listener: Listener, clock: Clock, usual: Usual) -> None:
        """`usual` is the priority to serve at."""
        self._spec = spec
        self._usual = usual
        self._listener = listener
        self._clock = clock
        self._identity = Identity(spec.model, spec.version, spec.color, spec.digest)
        self._state = State()
        self._thread = EngineThread()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._hung = False
        self._telemetry = Telemetry(self._identity)
        self._pages = Pages(
            identity=self._identity,
            state=self._state,
            telemetry=self._telemetry,
            release=importlib.metadata.version("teal"),
        )
        self._app = App(
            identity=self._identity,
            state=self._state,
            telemetry=self._telemetry,
            clock=clock,
            limits=LIMITS,
            pages=self._pages,
        )
        self._server = WorkerServer(self._app)

    async def run(self) -> int:
        self._handle_signals()
        heartbeat = asyncio.create_task(_beat(self._clock), name="heartbeat")
        serving = asyncio.create_task(self._server.serve_on(self._listener.socket), name="server")
        try:
            return await self._live(serving)
        finally:
            self._listener.remove()
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)

    async def _live(self, serving: "asyncio.Task[None]") -> int:
        """Load, serve, drain."""
        batcher: MicroBatcher | None = None
        guard: Guard | None = None
        code = EXIT_DRAINED
        loading = asyncio.create_task(self._load(), name="loading")
        await self._until(loading, serving)
        if loading.done():
            try:
                batcher, guard = loading.result()
            except TealError as error:
                code = self._give_up(f"bad package: {error.message}")
            except Exception as error:
                _log.exception("loading failed")
                code = self._give_up(f"the model does not load: {type(error).__name__}")
            else:
                await self._until(serving)
        else:
            loading.cancel()
            _log.info("asked to stop while loading")
        if serving.done() and not self._stop.is_set():
            _log.error("the server ended by itself")
            code = EXIT_CRASHED
        if batcher is None:
            self._server.stop_now()
            await asyncio.gather(serving, return_exceptions=True)
        elif self._hung:
            code = EXIT_CRASHED
            await batcher.close()
            await self._finish(serving, _LAST_WORDS_SECONDS)
        else:
            await self._drain(serving)
            await batcher.close()
        if guard is not None:
            await guard.close(peaceful=not self._hung)
        if code == EXIT_DRAINED:  # any other ends with the line that says why: it is what the operator is shown
            _log.info("drained")
        return code

    async def _load(self) -> tuple[MicroBatcher, Guard]:
        """Verify, load and warm in the engine thread; then take requests."""
        loop = asyncio.get_running_loop()
        manifest = await loop.run_in_executor(self._thread, verify, Path(self._spec.package), self._spec.digest)
        engine, costs = await loop.run_in_executor(self._thread, self._load_engine, manifest)
        pictures = await loop.run_in_executor(self._thread, open_pictures, manifest, LIMITS)
        await loop.run_in_executor(self._thread, come_back, self._usual)  # before the guard, whose processes inherit it
        guard = self._guard(manifest)
        batcher = MicroBatcher(
            engine=engine,
            signatures=manifest.signatures,
            buckets=manifest.buckets,
            clock=self._clock,
            limits=LIMITS,
            facts=self._telemetry,
            guard=guard,
            executor=self._thread,
            on_hang=self._on_hang,
        )
        for (signature, bucket), seconds in costs.items():
            batcher.curves[signature].learn(bucket, seconds)
        guard.start()
        batcher.start()
        self._serve(manifest, batcher, pictures)
        return batcher, guard

    def _guard(self, manifest: Manifest) -> Guard:
        folder = Path(self._spec.quarantine) if self._spec.quarantine else None
        return Guard(
            scratch=ScratchEngine(Path(self._spec.package), self._spec.threads, self._spec.packed),
            executor=EngineThread(),
            journal=open_journal(folder, manifest.buckets[-1]),
            records=Records(folder),
            clock=self._clock,
        )

    def _load_engine(self, manifest: Manifest) -> tuple[Engine, Costs]:
        root = Path(self._spec.package)
        threads = self._pages.threads = sizing(manifest, self._spec.threads, self._spec.replicas)
        _log.info("plan %s takes %s", manifest.plan, threads.reason)
        engine = open_engine(root, manifest, threads.count, Path(self._spec.packed) if self._spec.packed else None)
        samples = read_samples(root / manifest.warmup) if manifest.warmup is not None else {}
        return engine, warm_up(engine, manifest.signatures, manifest.buckets, samples, self._clock)

    def _serve(self, manifest: Manifest, batcher: MicroBatcher, pictures: Pictures | None) -> None:
        self._pages.manifest = manifest
        memory = Memory(manifest.signatures, LIMITS, self._clock)
        self._app.served = Served(Dialects(self._identity, manifest.signatures, LIMITS, pictures), batcher, memory)
        gc.collect()
        gc.freeze()  # what is loaded stays; the collector need not look at it again between requests
        self._telemetry.loaded(manifest.plan, _process_age(), batcher)
        self._state.move(Stage.READY, f"serving plan {manifest.plan}")
        self._telemetry.ready = True
        _log.info("ready after %.2f s with plan %s", self._telemetry.load_seconds, manifest.plan)

    async def _drain(self, serving: "asyncio.Task[None]") -> None:
        """Say so, keep answering for the grace, stop accepting, finish."""
        deadline = self._clock.monotonic() + self._spec.drain_seconds
        self._telemetry.ready = False
        self._state.move(Stage.DRAINING, "asked to stop")
        _log.info("draining")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), min(_GRACE_SECONDS, self._spec.drain_seconds / 3))
        await self._finish(serving, deadline - self._clock.monotonic())

    async def _finish(self, serving: "asyncio.Task[None]", seconds: float) -> None:
        self._server.stop(seconds)
        await asyncio.gather(serving, return_exceptions=True)

    def _give_up(self, reason: str) -> int:
        self._state.move(Stage.BROKEN, reason)
        _log.error("%s", reason)
        return EXIT_BAD_PACKAGE

    def _on_hang(self) -> None:
        self._hung = True
        self._telemetry.ready = False
        self._state.move(Stage.BROKEN, "an engine run does not end")
        _log.error("an engine run does not end; this worker exits to be replaced")
        self._stop.set()

    async def _until(self, *tasks: "asyncio.Task[object]") -> None:
        """Return when one of `tasks` is done or somebody asked to stop."""
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stop, *tasks), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    def _handle_signals(self) -> None:
        """SIGTERM and SIGINT drain; a second one ends the grace, a third stops waiting for requests in flight.
        SIGHUP is ignored: a worker has nothing to reload, and it must not die with somebody's terminal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, _log.info, "SIGHUP is ignored: a worker serves one version all its life")

    def _asked_to_stop(self) -> None:
        if self._hurry.is_set():
            self._server.stop_now()
        elif self._stop.is_set():
            self._hurry.set()
        else:
            self._stop.set()


def run_worker(spec: WorkerSpec, listener: Listener, usual: Usual) -> int:
    """Run a worker on uvloop and return its exit code. Once loaded it goes on at the priority `usual`."""

    async def main() -> int:
        return await Worker(spec, listener, SystemClock(), usual).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def _beat(clock: Clock) -> None:
    """Keep pushing back the moment at which a thread outside Python takes the event loop for dead and ends the
    process, because then nothing in Python can."""
    while True:
        faulthandler.dump_traceback_later(_STALL_SECONDS, exit=True)
        await clock.sleep(_HEARTBEAT_SECONDS)


def _process_age() -> float:
    """Seconds since this process was started, interpreter and imports included."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    ticks_per_second = 100  # USER_HZ, the same on every Linux platform Python runs on
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / ticks_per_second
