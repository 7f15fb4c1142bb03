"""Logs of children stay bounded and give the last words of the dead."""

import os
from pathlib import Path

from deploy.fleet.logfile import cap_log, former, last_words, open_log, prune_logs, size


def test_a_log_that_grew_too_large_is_put_aside_at_the_next_start(tmp_path: Path):
    path = tmp_path / "logs" / "worker-a.log"
    with open_log(path, limit=10) as log:
        log.write(b"x" * 20)
    with open_log(path, limit=10) as log:
        log.write(b"new")
    assert path.read_bytes() == b"new"
    assert former(path).read_bytes() == b"x" * 20


def test_the_log_of_a_running_process_is_cut_under_its_hands(tmp_path: Path):
    path = tmp_path / "worker-a.log"
    with open_log(path) as log:
        log.write(b"y" * 100)
        log.flush()
        cap_log(path, limit=50)
        assert size(path) == 0
        log.write(b"goes on")
        log.flush()
    assert path.read_bytes() == b"goes on"
    assert former(path).read_bytes() == b"y" * 100


def test_a_small_log_is_left_alone(tmp_path: Path):
    path = tmp_path / "worker-a.log"
    path.write_text("short")
    cap_log(path)
    assert path.read_text() == "short"
    cap_log(tmp_path / "none.log")


def test_last_words_are_those_of_this_incarnation(tmp_path: Path):
    path = tmp_path / "worker-a.log"
    path.write_text("first life\n")
    start = size(path)
    assert last_words(path, start) == ""
    with path.open("a") as log:
        log.write("Traceback\n  File x\nValueError: no\n\n   \n")
    assert last_words(path, start) == "ValueError: no"


def test_last_words_survive_a_log_that_was_cut_in_the_meantime(tmp_path: Path):
    path = tmp_path / "worker-a.log"
    path.write_text("after the cut\n")
    assert last_words(path, since=10**9) == "after the cut"
    assert last_words(tmp_path / "none.log") == ""


def test_last_words_are_safe_to_show(tmp_path: Path):
    path = tmp_path / "worker-a.log"
    path.write_bytes(b"\x1b[31mred\x07\xff" + b"z" * 5000 + b"\n")
    words = last_words(path)
    assert words.isprintable()
    assert len(words) == 300


def test_only_so_many_logs_of_former_workers_are_kept(tmp_path: Path):
    for n in range(6):
        path = tmp_path / f"worker-{n}.log"
        path.write_text("")
        os.utime(path, (n, n))
    (tmp_path / "envoy.log").write_text("")
    prune_logs(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["envoy.log", "worker-4.log", "worker-5.log"]
