"""A folder and a bucket keep the same promises; they are asked the same questions."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from contracts.errors import Unavailable
from serving.batch.commit import Attempt, Create, Result, Step, commit, finish, resume, sha256
from serving.batch.objects import Bucket, Folder, Objects, drive
from serving.stores import open_store, parse
from tests.fakes import s3

PART = "part-00000.jsonl"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[s3.S3]:
    with s3.running("results") as found:
        yield found


@pytest.fixture(params=["folder", "bucket in memory", "S3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Folder(tmp_path / "out")
    address = parse(f"s3://results/{tmp_path.name}/out")
    if request.param == "S3":
        found: s3.S3 = request.getfixturevalue("endpoint")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        return Bucket(open_store(address, found.environment), address)
    return Bucket(MemoryStore(), address)


def result(attempt: str, part: bytes = b"1\n", errors: bytes | None = b"bad\n") -> Result:
    said = None if errors is None else sha256(errors)
    return Result(Attempt(0, attempt, PART, sha256(part), 2, 1, said, (), {}), part, errors)


def test_an_object_is_created_once_and_never_changed(objects: Objects) -> None:
    assert objects.create("a/b.json", b"first")
    assert not objects.create("a/b.json", b"second")
    assert objects.read("a/b.json") == b"first"
    assert objects.digest("a/b.json") == sha256(b"first")


def test_what_is_not_there_is_nothing(objects: Objects) -> None:
    assert objects.read("a") is objects.digest("a") is None
    assert objects.keys("a") == ()
    objects.delete("a")


def test_keys_are_listed_by_how_they_begin(objects: Objects) -> None:
    for key in ("_job/attempts/00000.b.json", "_job/attempts/00000.a.json", "_job/attempts/00001.a.json", PART):
        objects.create(key, b"")
    assert objects.keys("_job/attempts/00000.") == ("_job/attempts/00000.a.json", "_job/attempts/00000.b.json")
    assert objects.keys("part-") == (PART,)
    objects.delete("_job/attempts/00000.a.json")
    assert objects.keys("_job/attempts/00000.") == ("_job/attempts/00000.b.json",)


def test_of_many_writers_at_once_one_creates(objects: Objects) -> None:
    won: list[bool] = []
    threads = [threading.Thread(target=lambda n=n: won.append(objects.create("x", b"%d" % n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_shard_is_published_resumed_and_closed(objects: Objects) -> None:
    first = drive(commit(result("a")), objects)
    assert drive(commit(result("b", b"other\n", None)), objects) == first
    assert drive(resume(0, PART), objects) == first
    drive(finish(1, {"plan": "x"}), objects)
    assert objects.read(PART) == b"1\n"
    assert objects.read("errors/part-00000.jsonl") == b"bad\n"
    assert objects.keys("_job/attempts/") == ()
    assert objects.read("_SUCCESS") == b""


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("point", range(6))
def test_a_writer_killed_before_any_step_is_finished_by_the_next(objects: Objects, point: int) -> None:
    left = point

    def before(_step: Step) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    with contextlib.suppress(Killed):
        drive(commit(result("a")), objects, before)
    winner = drive(resume(0, PART), objects) or drive(commit(result("b")), objects)
    assert objects.read("_job/commits/00000.json") == winner.to_json()
    assert objects.read("errors/part-00000.jsonl") == b"bad\n"


def test_a_reader_of_a_folder_never_sees_half_a_part(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    # What a death in the middle of a write leaves.
    (tmp_path / ".making-0123").write_bytes(b"half")
    assert list(tmp_path.glob("part-*")) == []
    assert folder.keys("") == ()
    folder.tidy()
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_overwrites_is_refused_before_any_work() -> None:
    class Overwrites(Bucket):
        def create(self, key: str, content: bytes) -> bool:
            super().delete(key)
            return super().create(key, content)

    overwriting = Overwrites(MemoryStore(), parse("s3://results/out"))
    with pytest.raises(Unavailable, match="conditional writes"):
        overwriting.probe()
    honest = Bucket(MemoryStore(), parse("s3://results/out"))
    honest.probe()
    assert honest.keys("") == ()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot write"):
        Folder(tmp_path / "file").create("x", b"")


def test_steps_are_told_before_they_are_done(tmp_path: Path) -> None:
    told: list[str] = []
    drive(commit(result("a")), Folder(tmp_path), lambda step: told.append(type(step).__name__))
    assert told[:3] == [Create.__name__] * 3
