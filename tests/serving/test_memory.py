"""What a worker remembers of its answers: by id, by share, within its bounds."""

import zlib
from dataclasses import replace

import numpy as np

from contracts.limits import KIB, LIMITS
from contracts.signature import Signature, TensorSpec
from contracts.worker import ANSWERS_TOLD
from serving.memory import Memory
from tests.fakes.clock import HandClock

SCORE = Signature("score", (), (TensorSpec("y", "float32", (None,)),), batched=True)
WIDE = Signature("wide", (), (TensorSpec("y", "float32", (None, 500)),), batched=True)
TEXT = Signature("text", (), (TensorSpec("y", "string", (None,)),), batched=True)
PICTURE = Signature("picture", (), (TensorSpec("y", "float32", (None, 4, 4)),), batched=True)
ALL = (SCORE, WIDE, TEXT, PICTURE)


class Desk:
    """A memory, and answers that come in one after the other, a second apart."""

    def __init__(self, **limits: int) -> None:
        self.clock = HandClock()
        self.memory = Memory(ALL, replace(LIMITS, **limits), self.clock)  # type: ignore[arg-type]

    def answer(self, name: str | None, signature: Signature = SCORE, value: float = 1.0, rows: int = 1) -> None:
        spec = signature.outputs[0]
        shape = (rows, *(d or 0 for d in (spec.shape or ())[1:]))
        array = np.full(shape, b"dog", object) if spec.dtype == "string" else np.full(shape, value, np.float32)
        self.clock.move(1)
        key = None if name is None else name.encode()
        self.memory.keep_cut(key, self.clock.monotonic(), signature, rows, {"y": array})

    def known(self, *ids: str) -> list[str]:
        return [answer["id"] for answer in self.memory.answers_to(ids)]


def test_an_answer_is_remembered_with_what_it_said_and_when() -> None:
    desk = Desk()
    desk.answer("a", value=0.5, rows=2)
    desk.clock.move(60)
    (answer,) = desk.memory.answers_to(["a"])
    assert answer["at"] == desk.clock.wall() - 60
    assert (answer["id"], answer["rows"], answer["kind"], answer["predicted"]) == ("a", 2, "score", [0.5, 0.5])


def test_of_one_id_sent_twice_the_latest_answer_counts() -> None:
    desk = Desk()
    desk.answer("a", value=1)
    assert desk.memory.answers_to(["a"])[0]["predicted"] == [1.0]
    desk.answer("a", value=2)
    assert desk.memory.answers_to(["a"])[0]["predicted"] == [2.0]


def test_nobody_is_told_of_ids_that_were_not_given_or_are_unreasonable() -> None:
    desk = Desk()
    desk.answer(None)
    desk.answer("x" * 129)
    desk.answer("é")
    assert desk.known("nobody", "x" * 129, "é") == ["é"]


def test_what_is_too_big_is_remembered_without_what_it_said() -> None:
    desk = Desk()
    desk.answer("fits", WIDE, rows=2)
    desk.answer("too big", WIDE, rows=3)
    desk.answer("word", TEXT)
    desk.answer("no class", PICTURE)
    fits, too_big, word, no_class = desk.memory.answers_to(["fits", "too big", "word", "no class"])
    assert (fits["kind"], fits["predicted"]) == ("class", [0, 0])
    assert (too_big["kind"], too_big["predicted"], too_big["rows"]) == (None, [], 3)
    assert (word["kind"], word["predicted"]) == ("text", ["dog"])
    assert no_class["kind"] is None


def test_the_oldest_are_forgotten_small_and_big_each_within_their_bound() -> None:
    desk = Desk(answers_kept=10, answers_bytes=3 * 4 * KIB)
    for n in range(100):
        desk.answer(f"small {n}")
        desk.answer(f"big {n}", WIDE)
    _, answers = desk.memory.answers_since(0.0, 1)
    assert [a["id"] for a in answers if a["id"].startswith("small")] == [f"small {n}" for n in range(90, 100)]
    assert [a["id"] for a in answers if a["id"].startswith("big")] == ["big 97", "big 98", "big 99"]


def test_asking_again_and_again_does_not_make_the_memory_grow() -> None:
    desk = Desk(answers_kept=10)
    for n in range(200):
        desk.answer(f"r{n}")
        assert desk.known(f"r{n}") == [f"r{n}"]
    remembered = desk.known(*(f"r{n}" for n in range(200)))
    assert remembered[-10:] == [f"r{n}" for n in range(190, 200)]
    assert len(remembered) <= 20


def test_a_row_keeps_no_whole_batch_alive() -> None:
    desk = Desk()
    batch = np.arange(64, dtype=np.float32)
    desk.memory.keep_cut(b"a", 1.0, SCORE, 1, {"y": batch[3:4]})
    batch[:] = 0
    assert desk.memory.answers_to(["a"])[0]["predicted"] == [3.0]


def test_two_workers_asked_for_the_same_share_tell_of_the_same_requests() -> None:
    here, there = Desk(), Desk()
    for n in range(300):
        here.answer(f"r{n}", value=1)
        there.answer(f"r{n}", value=2)
    one, two = ([a["id"] for a in desk.memory.answers_since(0.0, 10)[1]] for desk in (here, there))
    assert one == two == [f"r{n}" for n in range(300) if zlib.crc32(f"r{n}".encode()) % 10 == 0]


def test_asking_on_from_where_the_last_telling_ended_misses_and_repeats_nothing() -> None:
    desk = Desk()
    for n in range(ANSWERS_TOLD + 5):
        desk.answer(f"r{n}", WIDE if n % 2 else SCORE)
    first, told = desk.memory.answers_since(0.0, 1)
    second, rest = desk.memory.answers_since(first, 1)
    assert [a["id"] for a in told + rest] == [f"r{n}" for n in range(ANSWERS_TOLD + 5)]
    assert desk.memory.answers_since(second, 1) == (second, [])
