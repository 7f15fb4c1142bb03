"""Whatever happens in whatever order, all of it can be decided again from the record."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy.audit.verify import verify
from tests.deploy.audit.story import again, begin, tick
from tests.deploy.plane import BOUND, Plane, plane
from tests.fakes.clock import HandClock
from tests.fakes.counters import FakeCounters
from tests.fakes.fleet import FakeFleet
from tests.fakes.traffic import FakeTraffic

TICKS = 60
COMMANDS = (("pause", {}), ("resume", {}), ("skip", {"override": True}), ("abort", {}), ("undo", {}),
            ("promote", {"override": True}), ("extend", {"seconds": 60}), ("weight", {"percent": 3.14}))  # fmt: skip


class Story:
    def __init__(self, path: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._path = path
        self._world: dict[str, Any] = {
            "fleet": FakeFleet(instantly=True),
            "traffic": FakeTraffic(),
            "counters": FakeCounters(),
            "clock": HandClock(),
        }

    async def tell(self) -> Plane:
        async with AsyncExitStack() as stack:
            p = await stack.enter_async_context(plane(self._path, **self._world))
            await begin(p)
            for _ in range(TICKS):
                if self._random.random() < 0.05:
                    await stack.aclose()
                    p = await stack.enter_async_context(plane(self._path, **self._world))
                await self._step(p)
            with p.store.audited() as record:
                report = verify(record)
            assert report.wrong == []
            assert report.decisions
        return p

    async def _step(self, p: Plane) -> None:
        what = self._random.random()
        p.counters.broken = "nobody answers" if what < 0.1 else None
        if 0.1 < what < 0.25:
            command, body = self._random.choice(COMMANDS)
            await p.post(f"m/{command}", **body)  # refused or not
        if 0.25 < what < 0.3:
            self._world["counters"].restart("m", self._random.choice((1, 2)))
        if 0.3 < what < 0.35:
            self._world["fleet"].die(self._random.choice(self._world["fleet"].workers()).id)
        if 0.35 < what < 0.4:
            self._world["fleet"].ready()
        if p.store.deployment("m").candidate is None:
            live = p.store.deployment("m").live
            assert live is not None
            p.fleet.ready()
            await again(p, 3 - live.version)
        if what > 0.95:
            p.clock.move(400)
        if p.store.deployment("m").trial is not None:
            await tick(p, failing=self._random.choice((0.0, 0.001, 0.001, 0.01, 0.05)))
        else:
            p.clock.move(1)
            await p.reconciler.next_tick(BOUND)


@pytest.mark.parametrize("seed", range(6))
def test_a_story_told_at_random_can_be_decided_again(tmp_path: Path, seed: int) -> None:
    asyncio.run(Story(tmp_path, seed).tell())
