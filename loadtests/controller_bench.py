"""How long one tick of the control plane takes with a thousand models in rollout at the same time, on one core.

Fleet, Envoy and counters are stand-ins in memory, so that what is measured is the control plane: looking, weighing
evidence, deciding, writing all of it with its observations to a real database on this disk, and making the routing
table. Every tick has new counts for every rollout, as every other tick of a gateway has.

python -m loadtests.controller_bench [--rounds 5] [--seconds 10]
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from contracts.names import Color
from contracts.traffic import TOTAL
from deploy.audit.observations import Seen
from deploy.audit.verify import verify
from deploy.garbage import collect_seldom
from deploy.reconcile import Reconciler
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.events import Health, Observation
from deploy.rollout.moves import Decision
from deploy.rollout.plan import CANARY
from deploy.rollout.rules import decide
from deploy.store.database import sqlite_url
from deploy.store.standing import Author
from deploy.store.store import Store
from deploy.telemetry import Telemetry
from loadtests.command import Options, options, publish, say
from loadtests.homes import fresh_home
from loadtests.report import Row
from tests.deploy.plane import add_versions
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic

MODELS = tuple(f"model-{number:04}" for number in range(1000))
REQUESTS = 200  # of each model between two ticks, both versions together
DURATIONS = ((0.9, 0.002), (0.09, 0.02), (0.01, 0.2))  # shares of them, and how long these take
FAILING = 0.01  # of both versions alike
BETWEEN = 2.0  # seconds between two looks at the counters
PLAN = replace(CANARY, steps=tuple(replace(step, dwell=15 * BETWEEN) for step in CANARY.steps))


class Tick(NamedTuple):
    """Seconds it took, seconds of the core it used, and how many rollouts took their next step in it."""

    seconds: float
    core: float
    moved: int


class Crowd:
    """A control plane with a thousand rollouts, each of them at its first step."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(sqlite_url(folder / "state.db"))
        self._clock, self._counters = HandClock(), FakeCounters()
        for model in MODELS:
            add_versions(self.store, model, 2)
        self.store.change_all(MODELS, _begun, author=Author("bench", 1.0))
        self._reconciler = Reconciler(
            store=self.store,
            fleet=FakeFleet(instantly=True),
            traffic=FakeTraffic(),
            counters=self._counters,
            package_of=str,
            clock=self._clock,
            onlooker=Telemetry().rollouts,
        )

    async def tick(self) -> Tick:
        """Callers are served for two seconds, and then the control plane looks."""
        self._serve()
        moved, core, began = self._revisions(), time.process_time(), time.perf_counter()
        await self._reconciler.tick()
        took = Tick(time.perf_counter() - began, time.process_time() - core, self._revisions() - moved)
        assert all(d.trial is not None for d in self.store.deployments()), "a rollout ended"
        return took

    def _revisions(self) -> int:
        return sum(d.revision for d in self.store.deployments())

    def _serve(self) -> None:
        for d in self.store.deployments():
            for version, share in ((1, 1 - d.weight / TOTAL), (2, d.weight / TOTAL)):
                for part, seconds in DURATIONS:
                    requests = round(REQUESTS * share * part)
                    failed = round(requests * FAILING)
                    self._counters.answer(d.model, version, requests, failed=failed, seconds=seconds)
        self._clock.move(BETWEEN)


def _begun(nothing: Deployment) -> tuple[Decision, Seen | None]:
    model = nothing.model
    live, candidate = (Place(v, color, f"{model}-{v}", 1) for v, color in ((1, Color.BLUE), (2, Color.GREEN)))
    warm = Deployment(model, 1, State.WARMING, live, candidate, strategy=PLAN.strategy, plan=PLAN)
    return decide(warm, Observation(live=Health(ready=1), candidate=Health(ready=1)), 1.0), None


async def measure(crowd: Crowd, chosen: Options) -> list[list[Tick]]:
    for _ in range(3):  # workers become ready, Envoy gets its table, counters have a beginning
        await crowd.tick()
    collect_seldom()  # as the control plane does
    rounds = []
    for number in range(chosen.rounds):
        say(f"round {number + 1}")
        until, ticks = time.monotonic() + chosen.seconds, []
        while time.monotonic() < until or not ticks:
            ticks.append(await crowd.tick())
        rounds.append(ticks)
    return rounds


def rows_of(rounds: Sequence[Sequence[Tick]], crowd: Crowd, state: Path) -> list[Row]:
    ordinary = [sorted(t.seconds for t in ticks if not t.moved) or [0.0] for ticks in rounds]
    moving = [tick.seconds for ticks in rounds for tick in ticks if tick.moved]
    core = tuple(1e3 * sum(t.core for t in ticks) / len(ticks) for ticks in rounds)
    with crowd.store.audited() as record:
        began = time.perf_counter()
        report = verify(record)
        seconds = time.perf_counter() - began
    assert not report.wrong, report.wrong[0]
    with sqlite3.connect(state) as raw:
        size = raw.execute("SELECT avg(length(body)) FROM observations").fetchone()[0]
    raw.close()
    return [
        Row("a tick with 1,000 rollouts", "ms", tuple(1e3 * t[len(t) // 2] for t in ordinary), 1000, at_least=False),
        Row("the longest of a round", "ms", tuple(1e3 * t[-1] for t in ordinary), 1000, at_least=False),
        Row(
            "one in which they take their next step",
            "ms",
            tuple(1e3 * s for s in moving) or (0.0,),
            1000,
            at_least=False,
        ),
        Row("of that on the core", "ms", core),
        Row("an observation as it is kept", "bytes", (size,)),
        Row("teal audit verify, per 1,000 observations", "s", (1000 * seconds / report.observations,)),
    ]


def main() -> None:
    chosen = options("controller_bench", __doc__, rounds=5, seconds=10)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with fresh_home() as home:
        home.mkdir()
        say(f"beginning {len(MODELS)} rollouts")
        crowd = Crowd(home)
        rows = rows_of(asyncio.run(measure(crowd, chosen)), crowd, home / "state.db")
        crowd.store.close()
    notes = [
        f"{chosen.rounds} rounds of {chosen.seconds:g} s; one process on one core. Each rollout compares "
        f"{len(PLAN.guardrails)} things and gets {REQUESTS} new requests a tick.",
        "Stand-ins for Envoy, workers and counters; the database is real, and each tick ends with a commit.",
    ]
    publish("controller", "A tick of the control plane with 1,000 models in rollout", rows, notes)


if __name__ == "__main__":
    main()
