"""The scratch process: what it computes, and what its owner is told of each way to end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.engine.scratch import ProcessDied, ScratchEngine, ScratchUnavailable
from tests.serving.packages import Package
from tests.serving.poison.killer import DEADLY, only_where_it_kills, rows
from tests.serving.process import wait_for


@pytest.fixture
def scratch(killer: Package) -> Iterator[ScratchEngine]:
    engine = ScratchEngine(killer.root)
    yield engine
    engine.close()


@only_where_it_kills
def test_an_input_that_ends_the_process_is_told_apart_and_the_next_one_is_answered(scratch: ScratchEngine) -> None:
    assert scratch.run("serving_default", rows(7), 30)["y"].tolist() == [[7]]
    with pytest.raises(ProcessDied, match="SIGFPE") as death:
        scratch.run("serving_default", rows(1, DEADLY), 30)
    assert death.value.signal == signal.SIGFPE
    assert not scratch.running
    assert scratch.run("serving_default", rows(8, 9), 30)["y"].tolist() == [[8], [9]]


def test_what_the_engine_raises_is_told_in_words_and_the_process_lives_on(scratch: ScratchEngine) -> None:
    with pytest.raises(RuntimeError, match="serving_nonsense"):
        scratch.run("serving_nonsense", rows(1), 30)
    assert scratch.running
    assert scratch.run("serving_default", rows(1), 30)["y"].tolist() == [[1]]


def test_a_run_that_takes_too_long_is_ended(scratch: ScratchEngine) -> None:
    scratch.run("serving_default", rows(1), 30)
    os.kill(child_of(os.getpid()), signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        scratch.run("serving_default", rows(1), 0.05)
    assert not scratch.running


def test_a_package_that_does_not_load_says_nothing_about_the_input(tmp_path: Path) -> None:
    with pytest.raises(ScratchUnavailable, match="NotFound"):
        ScratchEngine(tmp_path).run("serving_default", rows(1), 30)


@pytest.mark.tensorflow
def test_texts_travel_both_ways(tensorflow: Package) -> None:
    engine = ScratchEngine(tensorflow.root)
    words = np.array([b"caf\xc3\xa9", b"", b"a\0b"], object)
    try:
        assert engine.run("upper", {"words": words}, 60)["shouted"].tolist() == [b"CAF\xc3\xa9", b"", b"A\0B"]
    finally:
        engine.close()


def child_of(parent: int) -> int:
    """The one process that `parent` started and that runs the scratch process."""
    found: list[int] = []

    def look() -> bool:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if ours and b"scratch_process" in words:
                    found.append(int(entry.name))
        return bool(found)

    wait_for(look, "a scratch process")
    return found[0]
