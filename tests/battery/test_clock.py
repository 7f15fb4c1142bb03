"""Row D10: the wall clock of a machine jumps. What waits does not look at it; what records may."""

import re
from pathlib import Path

import pytest

from contracts.clock import SystemClock
from tests.serving.http.asgi import Client, run

ROOT = Path(__file__).parents[2]
PREDICT = "/v1/models/half_plus_two:predict"
READS_WALL = re.compile(r"\.wall\(\)|\btime\.(time|time_ns|localtime|gmtime)\(|\bdatetime\.(now|utcnow|today)\(")
WAITING = ("serving/http", "serving/batching", "serving/engine", "serving/codec", "router")


class Jumping(SystemClock):
    """A machine whose wall clock is set anew between any two looks at it."""

    def __init__(self, jump: float) -> None:
        self._jump, self._looks = jump, 0

    def wall(self) -> float:
        self._looks += 1
        return super().wall() + self._jump * self._looks


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
@pytest.mark.parametrize("cost", [10e-6, 1.0], ids=["at once", "queued"])
def test_d10_a_jump_of_the_wall_clock_changes_no_deadline(jump: float, cost: float) -> None:
    async def story(client: Client) -> list[int]:
        ask = [await client.ask("POST", PREDICT, {"instances": [1.0]}, {"x-teal-timeout-ms": "20000"}) for _ in "123"]
        return [answer.status for answer in ask]

    assert run(story, clock=Jumping(jump), cost=cost) == [200] * 3


def test_d10_nobody_who_waits_reads_the_wall_clock() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for folder in WAITING
        for path in (ROOT / folder).rglob("*.py")
        if READS_WALL.search(path.read_text(encoding="utf-8"))
    ]
    assert readers == []
