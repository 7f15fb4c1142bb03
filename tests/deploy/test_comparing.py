"""Mirrored answers meet their twins: alike, different, or never."""

import asyncio

from contracts.names import Color
from deploy import comparing
from deploy.comparing import ANSWERS_WANTED, Comparing
from deploy.evidence.counted import NOT_COMPARED, Compared
from deploy.ports import Placement
from tests.fakes.clock import HandClock
from tests.fakes.fleet import FakeFleet
from tests.fakes.memories import FakeMemories

PAIR = ("m", 1, 2)


class Mirror:
    """Versions 1 (live) and 2 (mirrored) of model m, compared from now on."""

    def __init__(self) -> None:
        self.memories, self.fleet, self.clock = FakeMemories(), FakeFleet(instantly=True), HandClock()
        self.comparing = Comparing(self.memories, self.fleet, self.clock)
        asyncio.run(
            self.fleet.converge([Placement("m", v, c, "d" * 64, "/p") for v, c in zip((1, 2), Color, strict=True)])
        )
        assert self.comparing.take(PAIR) == NOT_COMPARED
        self.look()

    def both(self, name: str, live: int, candidate: int) -> None:
        self.memories.answered(name, 1, live)
        self.memories.answered(name, 2, candidate)

    def look(self) -> Compared:
        asyncio.run(self.comparing.look())
        return self.comparing.take(PAIR)


def test_requests_that_both_answered_are_counted_alike_or_different() -> None:
    mirror = Mirror()
    mirror.both("a", 1, 1)
    mirror.both("b", 1, 2)
    mirror.memories.answered("only live", 1, 1)
    assert mirror.look() == Compared(1, 1)
    assert mirror.look() == NOT_COMPARED


def test_a_twin_may_come_in_a_later_look() -> None:
    mirror = Mirror()
    mirror.memories.answered("a", 2, 1)
    assert mirror.look() == NOT_COMPARED
    mirror.memories.answered("a", 1, 1)
    assert mirror.look() == Compared(1, 0)


def test_what_was_answered_before_anybody_asked_is_not_compared() -> None:
    mirror = Mirror()
    mirror.comparing = Comparing(mirror.memories, mirror.fleet, mirror.clock)
    mirror.both("before", 1, 2)
    mirror.comparing.take(PAIR)
    assert mirror.look() == NOT_COMPARED


def test_an_id_that_one_version_answered_twice_is_left_out() -> None:
    mirror = Mirror()
    for prediction in (1, 2):
        mirror.memories.answered("same", 1, prediction)
    for prediction in (1, 2):
        mirror.memories.answered("same", 2, prediction)
    assert mirror.look() == NOT_COMPARED


def test_an_answer_that_cannot_be_read_is_not_compared() -> None:
    mirror = Mirror()
    mirror.memories.answered("a", 1, kind=None)
    mirror.memories.answered("a", 2, kind=None)
    assert mirror.look() == NOT_COMPARED


def test_a_worker_that_does_not_answer_only_delays() -> None:
    mirror = Mirror()
    mirror.memories.silent.add("m-2-green-0")
    mirror.both("a", 1, 1)
    assert mirror.look() == NOT_COMPARED
    mirror.memories.silent.clear()
    assert mirror.look() == Compared(1, 0)


def test_under_load_a_smaller_share_is_compared_the_same_of_both() -> None:
    mirror = Mirror()
    for n in range(2 * ANSWERS_WANTED):
        mirror.both(f"first {n}", 1, 1)
    mirror.look()
    mirror.memories.asked_shares.clear()
    for n in range(2 * ANSWERS_WANTED):
        mirror.both(f"second {n}", 1, 1)
    compared = mirror.look()
    assert mirror.memories.asked_shares == [2, 2]
    assert 0.4 < compared.same / (2 * ANSWERS_WANTED) < 0.6
    assert compared.different == 0
    for _ in range(3):
        mirror.look()
    assert mirror.memories.asked_shares[-1] == 1


def test_answers_that_wait_for_a_twin_are_bounded() -> None:
    mirror = Mirror()
    for n in range(comparing.WAITING + 1):
        mirror.memories.answered(f"r{n}", 1, 1)
    for _ in range(3):  # until all of the ids are asked for again
        mirror.look()
    mirror.memories.answered("r0", 2, 1)
    mirror.memories.answered(f"r{comparing.WAITING}", 2, 1)
    assert mirror.look() == Compared(1, 0)


def test_a_rollout_nobody_asks_about_is_not_compared_any_more() -> None:
    mirror = Mirror()
    mirror.clock.move(comparing.WATCHED_SECONDS + 1)
    mirror.memories.asked_shares.clear()
    asyncio.run(mirror.comparing.look())
    assert mirror.memories.asked_shares == []
