"""The commit protocol, tried in every order: writers of one shard, each of whom may die before any of its steps.

A state is what is stored and what every writer has been answered so far. Because a protocol only sees answers, a writer
is where its answers lead it, and the same state reached twice is explored once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from contracts.errors import Conflict
from serving.batch.commit import (
    ATTEMPTS,
    MANIFEST,
    SUCCESS,
    Attempt,
    Create,
    Delete,
    Digest,
    List,
    Read,
    Result,
    Step,
    Steps,
    commit,
    finish,
    merkle_root,
    part_name,
    resume,
    sha256,
)

PART = part_name(0, "jsonl")
Store = Mapping[str, bytes]
Writer = Callable[[], Steps[Any]]


def result(attempt: str, part: bytes, errors: bytes | None = None, shard: int = 0) -> Result:
    record = Attempt(
        shard=shard,
        attempt=attempt,
        part=part_name(shard, "jsonl"),
        sha256=sha256(part),
        rows=3,
        failed=0 if errors is None else 1,
        errors=None if errors is None else sha256(errors),
        sources=(("in.jsonl", "aa"),),
        facts={"seconds": 1.5},
    )
    return Result(record, part, errors)


def done(store: Store, step: Step) -> tuple[Store, Any]:
    """An honest store: what is there afterwards, and the answer."""
    match step:
        case Create(key, content):
            return (store, False) if key in store else ({**store, key: content}, True)
        case Read(key):
            return store, store.get(key)
        case Digest(key):
            return store, sha256(store[key]) if key in store else None
        case List(prefix):
            return store, tuple(sorted(key for key in store if key.startswith(prefix)))
        case Delete(key):
            return {k: v for k, v in store.items() if k != key}, None


def at(writer: Writer, answers: tuple[Any, ...]) -> tuple[Step | None, Any]:
    """The step a writer takes after these answers, or None with what it returned."""
    steps = writer()
    try:
        step = next(steps)
        for answer in answers:
            step = steps.send(answer)
    except StopIteration as ended:
        return None, ended.value
    return step, None


def run(store: Store, writer: Writer) -> tuple[Store, Any]:
    """One writer to its end, nobody else about."""
    answers: tuple[Any, ...] = ()
    while True:
        step, returned = at(writer, answers)
        if step is None:
            return store, returned
        store, answer = done(store, step)
        answers = (*answers, answer)


def explore(writers: tuple[Writer, ...], store: Store, deaths: int) -> Iterator[tuple[Store, bool]]:
    """Every state that can be reached, and whether all writers ended in it, by death or in peace."""
    places: tuple[tuple[Any, ...] | None, ...] = ((),) * len(writers)  # None: dead
    first = (tuple(sorted(store.items())), places, deaths)
    seen, pending = {first}, [first]
    while pending:
        items, places, left = pending.pop()
        now, ended = dict(items), True
        for i, answers in enumerate(places):
            if answers is None:
                continue
            step, _ = at(writers[i], answers)
            if step is None:
                continue
            ended = False
            after, answer = done(now, step)
            moves = [(after, (*answers, answer), left)] + ([(now, None, left - 1)] if left else [])
            for stored, place, remaining in moves:
                state = (tuple(sorted(stored.items())), (*places[:i], place, *places[i + 1 :]), remaining)
                if state not in seen:
                    seen.add(state)
                    pending.append(state)
        yield now, ended


def check(store: Store, known: dict[str, Result]) -> None:
    """What must hold at every moment, for whoever looks."""
    parts = [key for key in store if key.startswith("part-")]
    assert parts in ([], [PART])
    record = store.get("_job/commits/00000.json")
    if record is not None:
        assert parts, "a record without its part"
        winner = Attempt.from_json(record)
        assert sha256(store[PART]) == winner.sha256
        published = store.get("errors/part-00000.jsonl")
        if published is not None:
            assert sha256(published) == winner.errors
    else:
        assert "errors/part-00000.jsonl" not in store, "error rows before anybody has won"
    if parts:
        assert any(each.part == store[PART] for each in known.values())


DIFFERENT = {
    "a": result("a", b"1\n2\n", b"bad 3\n"),
    "b": result("b", b"1\n2\n3\n"),
    "c": result("c", b"1\n", b"two\n"),
}
# The same rows fail in both, told in different words: only the record says whose words are to be published.
ALIKE = {"a": result("a", b"1\n2\n", b"bad\n"), "b": result("b", b"1\n2\n", b"broken\n")}


@pytest.mark.parametrize("results", [DIFFERENT, ALIKE], ids=["different results", "equal parts"])
def test_in_every_order_and_with_every_death_one_attempt_wins_and_one_survivor_completes_it(
    results: dict[str, Result],
) -> None:
    writers: tuple[Writer, ...] = tuple((lambda r=each: commit(r)) for each in results.values())
    states = 0
    for store, ended in explore(writers, {}, deaths=2):
        states += 1
        check(store, results)
        if not ended:
            continue
        # Whoever comes next finds a shard that is published or open, and leaves it whole.
        after, winner = run(store, lambda: resume(0, PART))
        if winner is None:
            assert PART not in store
            after, winner = run(store, lambda: commit(result("later", b"9\n")))
        check(after, {**results, "later": result("later", b"9\n")})
        assert Attempt.from_json(after["_job/commits/00000.json"]) == winner
        assert ("errors/part-00000.jsonl" in after) == (winner.errors is not None)
    assert states > 300


def test_a_writer_that_slept_through_the_end_of_the_job_changes_nothing() -> None:
    a, late = result("a", b"1\n", b"bad\n"), result("b", b"1\n2\n", b"worse\n")
    for point in range(12):
        answers: tuple[Any, ...] = ()
        store: Store = {}
        for _ in range(point):  # the late one gets so far, and sleeps
            step, _ = at(lambda: commit(late), answers)
            if step is None:
                break
            store, answer = done(store, step)
            answers = (*answers, answer)
        store, winner = run(store, lambda: commit(a))
        store, _ = run(store, lambda: finish(1, {}))
        published = {k: v for k, v in store.items() if not k.startswith(ATTEMPTS)}
        while True:
            step, returned = at(lambda: commit(late), answers)
            if step is None:
                break
            store, answer = done(store, step)
            answers = (*answers, answer)
        assert returned == winner
        assert {k: v for k, v in store.items() if not k.startswith(ATTEMPTS)} == published
        assert ("errors/part-00000.jsonl" in store) == (winner.errors is not None)


def test_a_part_that_nobody_here_made_is_left_alone() -> None:
    with pytest.raises(Conflict, match="no attempt of this job made it"):
        run({PART: b"somebody's own file"}, lambda: commit(result("a", b"1\n")))


def test_a_job_is_closed_once_with_all_its_parts_and_rows() -> None:
    store: Store = {}
    for shard in range(3):
        store, _ = run(store, lambda s=shard: commit(result("a", b"%d\n" % s, b"bad\n" if s == 1 else None, shard=s)))
    closers: tuple[Writer, ...] = (lambda: finish(3, {"plan": "x"}), lambda: finish(3, {"plan": "x"}))
    for after, ended in explore(closers, store, deaths=1):
        if ended:
            assert after[SUCCESS] == b""
            assert not [key for key in after if key.startswith(ATTEMPTS)]
            assert b'"failed":1' in after[MANIFEST] and b'"rows":9' in after[MANIFEST]


def test_the_exploration_finds_a_protocol_that_is_wrong() -> None:
    def record_first(made: Result) -> Steps[None]:
        yield Create("_job/commits/00000.json", made.record.to_json())
        yield Create(made.record.part, made.part)

    writers: tuple[Writer, ...] = tuple((lambda r=each: record_first(r)) for each in DIFFERENT.values())
    with pytest.raises(AssertionError):
        for store, _ in explore(writers, {}, deaths=1):
            check(store, DIFFERENT)


def test_the_tree_of_digests_tells_order_and_number_of_parts() -> None:
    leaves = [sha256(b"%d" % i) for i in range(5)]
    roots = {merkle_root(leaves[:n]) for n in range(6)} | {merkle_root(leaves[::-1])}
    assert len(roots) == 7
