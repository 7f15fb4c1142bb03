"""An open-loop load generator: requests leave by schedule whether or not earlier ones were answered, and latency counts
from the scheduled moment, so that a stall is not hidden by the requests it kept from being sent.

    python -m loadtests.openloop http://127.0.0.1:8080/v1/models/digits:predict --rate 300 --seconds 10 --body FILE

In tests: `outcome = await run(load)`, or `async with under_load(load) as running: ...; running.outcome`.
Loopback only, bounded in requests, time and connections.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvloop

from loadtests.connection import Connection, Reply
from loadtests.load import Load, Outcome, Sample

SWEEP_SECONDS = 0.05  # how late a timeout may be noticed
CLOSE_SECONDS = 5.0  # for aborted connections to be gone; a turn of the loop is enough


class Running:
    """A run under way. `samples` grows while it runs; `stop` sends nothing new and waits for what is out."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.samples: list[Sample] = []
        self._loop = asyncio.get_running_loop()
        self._zero, self._began = time.monotonic(), time.time()
        self._idle: list[Connection] = []
        self._alive: set[Connection] = set()
        self._open = 0
        self._waiting: deque[tuple[float, int]] = deque()
        self._out: deque[tuple[float, Connection, list[bool]]] = deque()
        self._under_way = 0
        self._opening = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        self._request = load.request(0) if load.alike else None

    @property
    def outcome(self) -> Outcome:
        return Outcome(tuple(self.samples), self._began)

    async def run(self) -> Outcome:
        """Return once everything was sent and answered, or given up."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            await self._send_by_schedule()
            while self._under_way:
                self._quiet.clear()
                await self._quiet.wait()
            return self.outcome
        finally:
            sweeper.cancel()
            for task in self._connecting:
                task.cancel()
            await asyncio.gather(sweeper, *self._connecting, return_exceptions=True)
            # Asked to close only, a connection waits until its peer has read what was sent, and outlives the loop.
            if self._alive:
                await asyncio.wait([connection.end() for connection in list(self._alive)], timeout=CLOSE_SECONDS)

    def stop(self) -> None:
        self._stopping.set()

    def _now(self) -> float:
        return time.monotonic() - self._zero  # uvloop's own time stands still within a turn and counts milliseconds

    async def _send_by_schedule(self) -> None:
        for n, due in enumerate(self.load.schedule()):
            # One turn of the loop for each moment, not for each request: what is due already leaves at once.
            wait = due - self._now()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait)
            elif n % 32 == 0:
                await asyncio.sleep(0)
            if self._stopping.is_set():
                return
            self._under_way += 1
            self._waiting.append((due, n))
            self._pump()

    def _pump(self) -> None:
        """Give waiting requests to free connections, and open more within the bound."""
        while self._waiting:
            connection = self._free_connection()
            if connection is not None:
                self._ask(connection, *self._waiting.popleft())
            elif self._open < self.load.connections and self._opening < len(self._waiting):
                self._open += 1
                self._opening += 1
                task = asyncio.create_task(self._connect())
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
            else:
                return

    def _free_connection(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._open -= 1
        return None

    async def _connect(self) -> None:
        host, port = self.load.address
        try:
            async with asyncio.timeout(self.load.timeout):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._alive, keep_body=self.load.keep_bodies), host, port
                )
        except (OSError, TimeoutError) as error:
            self._open -= 1
            if self._waiting:
                due, _ = self._waiting.popleft()
                self._record(due, self._now(), Reply(0, failure=f"no connection: {type(error).__name__}"))
        else:
            # Asked at once, even if it was closed in the meantime: a server that only hangs up is a failure each time.
            if self._waiting:
                self._ask(connection, *self._waiting.popleft())
            else:
                self._idle.append(connection)
        finally:
            self._opening -= 1
        self._pump()

    def _ask(self, connection: Connection, due: float, n: int) -> None:
        sent, done = self._now(), [False]

        def answered(reply: Reply) -> None:
            done[0] = True
            if reply.reusable:
                self._idle.append(connection)
            else:
                self._open -= 1
            self._record(due, sent, reply)
            self._pump()

        self._out.append((sent + self.load.timeout, connection, done))
        connection.ask(self._request or self.load.request(n), answered)

    def _record(self, due: float, sent: float, reply: Reply) -> None:
        self._under_way -= 1
        self.samples.append(Sample(due, sent, self._now(), reply.status, reply.version, reply.failure, reply.body))
        if not self._under_way:
            self._quiet.set()

    async def _sweep(self) -> None:
        """Give up what took too long. All have the same time, so the oldest come first."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._now()
            while self._out and (self._out[0][2][0] or self._out[0][0] <= now):
                _, connection, done = self._out.popleft()
                if not done[0]:
                    connection.give_up("timeout")


async def run(load: Load) -> Outcome:
    """Send the whole load; return once everything was answered or given up."""
    return await Running(load).run()


@asynccontextmanager
async def under_load(load: Load) -> AsyncIterator[Running]:
    """Send `load` while the body runs; at its end stop sending and wait for what is out. `running.outcome` is whole
    after the block."""
    running = Running(load)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stop()
        await task


@contextmanager
def load_in_thread(*loads: Load) -> Iterator[Future[list[Outcome]]]:
    """Send all `loads` at once from a thread with an event loop of its own, for tests that block. At the end of the
    block sending stops; then the future holds an Outcome for each load."""
    future: Future[list[Outcome]] = Future()
    stop = threading.Event()

    async def story() -> list[Outcome]:
        runs = [Running(load) for load in loads]
        tasks = [asyncio.ensure_future(each.run()) for each in runs]

        async def watch() -> None:
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)
            for each in runs:
                each.stop()

        watcher = asyncio.create_task(watch())
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            # When one fails the others are still sending: they, too, close what they opened.
            for task in (*tasks, watcher):
                task.cancel()
            await asyncio.gather(*tasks, watcher, return_exceptions=True)

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                future.set_result(runner.run(story()))
        except BaseException as error:  # handed to whoever asks for the result
            future.set_exception(error)

    thread = threading.Thread(target=body, name="load", daemon=True)
    thread.start()
    try:
        yield future
    finally:
        stop.set()
        thread.join()


def arguments(argv: Sequence[str] | None) -> tuple[Load, bool]:
    parser = argparse.ArgumentParser(prog="python -m loadtests.openloop", description=__doc__.split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--body", type=Path, help="file with the body")
    parser.add_argument("--data", help="the body itself")
    parser.add_argument("--method")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="{n} is the number")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--fresh", action="store_true", help="a new connection for each request")
    parser.add_argument("--poisson", action="store_true", help="independent arrivals instead of a fixed beat")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    body = given.body.read_bytes() if given.body else (given.data or "").encode()
    headers = [header.partition(":")[::2] for header in given.header]
    try:
        load = Load(
            given.url,
            given.rate,
            given.seconds,
            body=body,
            method=given.method or ("POST" if body else "GET"),
            headers=tuple((name.strip(), value.strip()) for name, value in headers),
            connections=given.connections,
            fresh=given.fresh,
            poisson=given.poisson,
            timeout=given.timeout,
        )
    except ValueError as error:
        parser.error(str(error))
    return load, given.json


def report(outcome: Outcome) -> str:
    lines = [f"{outcome.ok} of {outcome.sent} answered well"]
    lines += [f"  {count} x {what}" for what, count in outcome.failures.most_common()]
    lines += [f"  version {version or 'unnamed'}: {count}" for version, count in sorted(outcome.versions.items())]
    lines.append("  ms: " + ", ".join(f"p{q:g} {outcome.quantile(q / 100) * 1e3:.2f}" for q in (50, 90, 99, 99.9, 100)))
    lines.append(f"  sent at most {outcome.lateness * 1e3:.1f} ms late")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every request was answered well, 1 when not, 2 for wrong usage."""
    load, as_json = arguments(argv)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(run(load))
    print(json.dumps(outcome.summary()) if as_json else report(outcome))
    return 0 if outcome.ok == outcome.sent else 1


if __name__ == "__main__":
    sys.exit(main())
