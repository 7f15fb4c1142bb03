"""The crash journal, written by a process that is really killed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.poison.journal import Journal, abandoned, open_journal, read_marks
from serving.poison.marks import fingerprint, mark

_WRITER = """
import os, signal, sys
from pathlib import Path
from serving.poison.journal import Journal
journal = Journal(Path(sys.argv[1]), 8)
journal.begin([int(word) for word in sys.argv[3:]])
if sys.argv[2] == "over":
    journal.end()
if sys.argv[2] == "peace":
    journal.close(peaceful=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path, how: str, *marks: int) -> None:
    subprocess.run([sys.executable, "-c", _WRITER, str(folder), how, *map(str, marks)], check=False, timeout=60)


def test_a_killed_process_leaves_the_names_of_those_who_were_in_its_run(tmp_path: Path) -> None:
    killed(tmp_path, "during", 5, 2**64 - 1, 7)
    mine = Journal(tmp_path, 8)
    (dead,) = abandoned(mine.others())
    assert read_marks(dead) == {5, 2**64 - 1, 7}
    mine.close(peaceful=True)


@pytest.mark.parametrize("how", ["over", "peace"])
def test_between_runs_and_in_peace_nobody_is_named(tmp_path: Path, how: str) -> None:
    killed(tmp_path, how, 5)
    mine = Journal(tmp_path, 8)
    assert [read_marks(path) for path in mine.others()] == ([frozenset()] if how == "over" else [])
    mine.close(peaceful=True)


def test_the_journal_of_a_living_process_is_read_and_never_taken_for_a_dead_ones(tmp_path: Path) -> None:
    living, mine = Journal(tmp_path, 8), Journal(tmp_path, 8)
    living.begin([3])
    assert [read_marks(path) for path in mine.others()] == [{3}]
    assert abandoned(mine.others()) == []
    living.end()
    assert [read_marks(path) for path in mine.others()] == [frozenset()]
    living.close(peaceful=True)
    mine.close(peaceful=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, (9).to_bytes(8, "little") + b"\0" * 56])
def test_a_journal_that_makes_no_sense_accuses_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.journal").write_bytes(content)
    assert read_marks(tmp_path / "x.journal") == frozenset()


def test_without_a_place_to_write_there_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert open_journal(tmp_path / "file", 8) is None
    assert open_journal(None, 8) is None


def test_marks_and_fingerprints_tell_inputs_apart() -> None:
    big = np.zeros((1, 224, 224, 3), np.float32)
    other = big.copy()
    other[0, 100:120] = 1
    inputs = [
        {"x": np.zeros(4, np.float32)},
        {"x": np.zeros(5, np.float32)},
        {"x": np.array([0, 0, 0, 1], np.float32)},
        {"x": np.asfortranarray(np.arange(6.0).reshape(2, 3))},
        {"x": np.array(3.0)},
        {"x": big},
        {"x": other},
        {"w": np.array([b"a", b"b"], object)},
        {"w": np.array([b"ab", b""], object)},
        {"w": np.array([], object)},
    ]
    assert len({mark("s", one) for one in inputs}) == len(inputs)
    assert len({fingerprint("s", one) for one in inputs}) == len(inputs)
    assert len({mark(name, inputs[0]) for name in ("a", "b")}) == 2
    assert all(0 <= mark("s", one) < 2**64 for one in inputs)
    # What was sent again is recognised, whatever array it is decoded into.
    assert mark("s", {"x": np.arange(10.0)[2:4]}) == mark("s", {"x": np.array([2.0, 3.0])})
