"""Killed at any step of a rollout and started again, a control plane comes to the same end: each step is taken once, no
request is counted twice, and nothing moves ahead before something new was seen."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.audit.observations import unpacked
from deploy.audit.verify import verify
from deploy.failpoints import FAILPOINTS, Killed, armed
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Deploy, Order
from deploy.rollout.plan import Strategy
from deploy.rollout.rules import decide
from deploy.routing import placements
from tests.deploy.audit.story import MOST, PLAN, REQUESTS, serve
from tests.deploy.plane import Plane, plane
from tests.deploy.shelf import ROOT, WELL
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic

ENDS = {0.001: State.PROMOTED, 0.3: State.ROLLED_BACK}
GOOD, BAD = ENDS
OF_COMMANDS = ("register.", "delete.", "command.")  # test_registry.py and test_store.py kill there
NAMES = [name for name in FAILPOINTS if not name.startswith(OF_COMMANDS)]
CASES = [(name, 0, BAD if name.startswith("rollback") else GOOD) for name in NAMES]
CASES += [(name, passes, GOOD) for name in NAMES if name.startswith(("evidence", "publish")) for passes in (1, 2)]
CASES += [(name, 0, BAD) for name in NAMES if name.startswith(("move", "publish"))]


@dataclass
class Life:
    """One rollout, whatever dies meanwhile: Envoy, the workers and what they counted live on."""

    path: Path
    failing: float
    fleet: FakeFleet = field(default_factory=lambda: FakeFleet(instantly=True))
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    counters: FakeCounters = field(default_factory=FakeCounters)
    clock: HandClock = field(default_factory=HandClock)
    deaths: int = 0
    served: int = 0
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def born(self) -> Plane:
        world = {"fleet": self.fleet, "traffic": self.traffic, "counters": self.counters, "clock": self.clock}
        return await self.stack.enter_async_context(plane(self.path, ticking=False, **world))

    async def tick(self, p: Plane) -> Plane:
        """Also when it dies of it; then the next one takes its first tick."""
        try:
            await p.reconciler.tick()
            return p
        except Killed:
            self.deaths += 1
        await self.stack.aclose()
        p = await self.born()
        before = p.store.deployment("m")
        await p.reconciler.tick()
        after = p.store.deployment("m")
        assert before.trial is None or ahead(after) <= ahead(before), "moved ahead in its first tick"
        routed = {routes.model: routes.split for routes in self.traffic.table.models}
        assert routed.get("m") == after.split(), "what was recorded is in force"
        return p

    async def lived(self) -> Plane:
        p = await self.born()
        if p.store.model_names():  # left by a process that was killed; its workers live on
            await self.fleet.converge(placements(p.store.deployments(), lambda d: str(p.home.package(d))))
            p = await self.tick(p)
        else:
            p.versions("m", 2)
        for version in (1, 2):
            if p.store.deployment("m").place_of(version) is None:
                order = Order(Deploy(version, f"{version - 1:064x}", Strategy.CANARY, plan=PLAN), WELL)
                p.store.change("m", lambda d, _v, o=order: decide(d, o, 1.0), actor="x", at=1.0)
            for _ in range(3):
                p = await self.tick(p)
        for _ in range(MOST):
            if p.store.deployment("m").state is ENDS[self.failing]:
                return p
            serve(p, failing=self.failing)
            self.served += REQUESTS
            p = await self.tick(p)
        raise AssertionError(p.store.deployment("m"))


def ahead(d: Deployment) -> int:
    """How much of the traffic the candidate has, or had when it became live."""
    return 10_000 if d.state is State.PROMOTED else d.weight


@dataclass(frozen=True)
class Told:
    """What a life leaves behind."""

    moves: list[tuple[str, int | None, int]]
    split: int
    consumed: int


def told(p: Plane) -> Told:
    """What is recorded; it must hold together."""
    events = list(reversed(p.store.history("m")))
    changes = [e for e in events if e.after]
    for former, later in pairwise(changes):
        assert later.before
        assert former.after
        assert later.before["revision"] == former.after["revision"] == later.after["revision"] - 1  # type: ignore[index]
    with p.store.audited() as record:
        report = verify(record)
        assert report.wrong == []
        seen = [unpacked(kept.body).observation for seq in range(100) for kept in record.observations(seq)]
    counted = [o.counted.errors for o in seen if o.counted is not None]
    return Told(
        [(e.action, e.version, e.after["weight"]) for e in changes if e.after],
        p.traffic.table.models[0].split.green,
        sum(errors.live.units + errors.candidate.units for errors in counted),
    )


def life(path: Path, failing: float) -> tuple[Told, Life]:
    async def lived() -> tuple[Told, Life]:
        one = Life(path, failing)
        async with one.stack:
            p = await one.lived()
            return told(p), one

    return asyncio.run(lived())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Told]:
    """What becomes of a good and of a bad candidate when nothing dies."""
    return {failing: life(tmp_path_factory.mktemp("undisturbed"), failing)[0] for failing in ENDS}


def test_undisturbed_a_rollout_takes_each_of_its_steps(undisturbed: dict[float, Told]) -> None:
    assert [move[0] for move in undisturbed[GOOD].moves] == [
        "deploy", "live", "deploy", "start", "advance", "cutover", "promote"
    ]  # fmt: skip
    assert [move[0] for move in undisturbed[BAD].moves] == ["deploy", "live", "deploy", "start", "rollback"]


@pytest.mark.parametrize(("name", "passes", "failing"), CASES)
def test_killed_at_any_step_it_comes_to_the_same_end(
    tmp_path: Path, undisturbed: dict[float, Told], name: str, passes: int, failing: float
) -> None:
    with armed(name, passes):
        left, one = life(tmp_path, failing)
    assert one.deaths == 1, "it was never there"
    assert (left.moves, left.split) == (undisturbed[failing].moves, undisturbed[failing].split)
    assert left.consumed <= one.served


@pytest.mark.parametrize("name", ["evidence.committed", "advance.before_commit", "cutover.committed", "publish.before"])
def test_killed_by_the_kernel_it_comes_to_the_same_end(
    tmp_path: Path, undisturbed: dict[float, Told], name: str
) -> None:
    environment = os.environ | {"TEAL_FAILPOINT": f"{name}:kill"}
    ended = subprocess.run([sys.executable, "-m", "tests.deploy.test_failpoints", str(tmp_path)], cwd=ROOT,
                           env=environment, timeout=120, check=False)  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    left, _ = life(tmp_path, GOOD)
    assert (left.moves, left.split) == (undisturbed[GOOD].moves, undisturbed[GOOD].split)


if __name__ == "__main__":
    life(Path(sys.argv[1]), GOOD)
