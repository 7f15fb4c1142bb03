"""Work that crashes, hangs or raises in the child becomes an answer in the parent."""

import faulthandler
import os
import signal
import time
from collections.abc import Iterator

import pytest

from contracts.errors import Unavailable
from serving.prepare.isolated import DiedOrLate, Forked, Inline, Isolation
from serving.prepare.stages import Watch


@pytest.fixture
def forked() -> Iterator[Forked]:
    child = Forked()
    yield child
    child.close()


@pytest.fixture(params=["inline", "forked"])
def isolation(request: pytest.FixtureRequest) -> Iterator[Isolation]:
    made: Isolation = Inline() if request.param == "inline" else Forked()
    yield made
    made.close()


def raises(error: Exception) -> None:
    raise error


def aborts() -> None:
    faulthandler.disable()  # pytest's would print pages
    os.kill(os.getpid(), signal.SIGABRT)


def hangs() -> None:
    time.sleep(60)


def test_one_piece_of_work_after_the_other(isolation: Isolation) -> None:
    for numbers in ([1, 2], [3, 4]):
        isolation.submit(sum, numbers)
        assert isolation.result(10) == sum(numbers)


def test_an_exception_arrives_as_its_text_and_the_next_work_is_done(isolation: Isolation) -> None:
    isolation.submit(raises, ValueError("no such signature"))
    with pytest.raises(RuntimeError, match="ValueError: no such signature"):
        isolation.result(10)
    isolation.submit(sum, [1])
    assert isolation.result(10) == 1


def test_a_full_disk_is_told_apart(isolation: Isolation) -> None:
    isolation.submit(raises, OSError(28, "No space left on device"))
    with pytest.raises(Unavailable, match="no space left"):
        isolation.result(10)


def test_a_child_that_aborts_is_an_answer_and_so_is_asking_it_again(forked: Forked) -> None:
    for _ in range(2):
        forked.submit(aborts)
        with pytest.raises(DiedOrLate, match="SIGABRT"):
            forked.result(10)


def test_a_child_that_hangs_is_given_up_and_gone(forked: Forked) -> None:
    forked.submit(hangs)
    with pytest.raises(DiedOrLate, match="took longer than 0 s"):
        forked.result(0.05)
    with pytest.raises(DiedOrLate):
        forked.result(10)


def test_a_stage_that_takes_too_long_is_named() -> None:
    late: list[str] = []
    told: list[tuple[str, str]] = []
    watch = Watch(lambda stage, detail: told.append((stage, detail)), late.append, {"quick": 3600.0, "load": 0.001})
    watch("quick", "a")
    watch("load", "b")
    deadline = time.monotonic() + 10
    while not late and time.monotonic() < deadline:
        time.sleep(0.001)
    watch.stop()
    assert late == ['preparing stopped in stage "load": it took longer than 0 s']
    assert (told, watch.stage) == ([("quick", "a"), ("load", "b")], "load")
