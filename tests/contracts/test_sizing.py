"""Threads times replicas stay within the cores, and every number comes with its reason."""

from pathlib import Path

import pytest

from contracts.machine import cores, quota
from contracts.sizing import MOST_REPLICAS, replicas_for, threads_for


@pytest.mark.parametrize("machine", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("replicas", [1, 2, 5])
@pytest.mark.parametrize("measured", [None, 1, 2, 64])
def test_threads_times_replicas_stay_within_the_cores(machine: int, replicas: int, measured: int | None) -> None:
    size = threads_for(asked=0, measured=measured, cores=machine, replicas=replicas)
    assert size.count >= 1
    assert size.count * replicas <= max(machine, replicas)


def test_a_model_that_one_thread_serves_fastest_gets_one_on_any_machine() -> None:
    size = threads_for(asked=0, measured=1, cores=64, replicas=1)
    assert (size.count, size.reason) == (1, "1 thread: more were no faster when the model was prepared")


def test_a_model_that_uses_cores_shares_them_with_its_replicas() -> None:
    assert threads_for(asked=0, measured=2, cores=8, replicas=1).count == 8
    size = threads_for(asked=0, measured=2, cores=8, replicas=2)
    assert (size.count, size.reason) == (4, "4 threads: 8 cores for each of 2 workers of this version")


def test_who_asks_gets_what_was_asked_for() -> None:
    assert threads_for(asked=7, measured=1, cores=2, replicas=2).count == 7
    assert replicas_for(asked=9, measured=2, cores=1).count == 9


@pytest.mark.parametrize(("machine", "count"), [(1, 1), (2, 1), (4, 1), (8, 2), (64, MOST_REPLICAS)])
def test_a_model_of_one_thread_gets_a_quarter_of_the_cores_in_workers(machine: int, count: int) -> None:
    assert replicas_for(asked=None, measured=1, cores=machine).count == count
    assert replicas_for(asked=None, measured=8, cores=machine).count == 1


@pytest.mark.parametrize(
    ("words", "expected"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", None)]
)
def test_a_containers_quota_counts_as_cores(words: str, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(words)
    assert quota(tmp_path / "cpu.max") == expected
    assert quota(tmp_path / "missing") is None
    assert cores() >= 1
