"""Plans: what is the same job, what is another one, and that cutting loses nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Conflict
from serving.batch.plan import Piece, Plan, Source, Spec, check_same, cut, stretches

SPEC = Spec("digits", 2, "d1", "s1", "p1", "jsonl", "parquet", ("id",), {"limit": None})
PLAN = Plan(SPEC, (Source("in/a.jsonl", 10, "t1"), Source("in/b.jsonl", 5, "t2")), ((Piece(0, 0, 10, 10),),))


def test_a_plan_comes_back_from_json_as_itself() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN
    assert Plan.from_json(PLAN.to_json()).id == PLAN.id


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(PLAN, spec=replace(SPEC, digest="d2")), "the package was d1, now it is d2"),
        (replace(PLAN, spec=replace(SPEC, preprocessing="p2")), "the preprocessing was p1"),
        (replace(PLAN, spec=replace(SPEC, writes="csv")), "the format of the output was parquet, now it is csv"),
        (replace(PLAN, spec=replace(SPEC, columns=())), "the columns that pass through"),
        (replace(PLAN, sources=PLAN.sources[:1]), "the input in/b.jsonl is missing now"),
        (replace(PLAN, sources=(*PLAN.sources, Source("in/c.jsonl", 1, "t"))), "the input in/c.jsonl is new"),
        (replace(PLAN, sources=(replace(PLAN.sources[0], tag="t9"), PLAN.sources[1])), "in/a.jsonl has changed"),
        (replace(PLAN, shards=((Piece(0, 0, 5, 5),), (Piece(0, 5, 10, 5),))), "cut differently"),
    ],
)
def test_another_job_is_refused_by_what_is_different(other: Plan, named: str) -> None:
    assert other.id != PLAN.id
    with pytest.raises(Conflict, match=named):
        check_same(PLAN, other)
    check_same(PLAN, PLAN)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format":99}', b'{"format":1,"spec":{}}'])
def test_a_plan_that_cannot_be_read_stops_the_job(content: bytes) -> None:
    with pytest.raises(Conflict, match="choose another"):
        Plan.from_json(content)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40), st.integers(1, 60), st.integers(1, 60))
def test_shards_have_every_piece_once_in_order_and_fit(
    sizes: list[tuple[int, int]], most_bytes: int, most_rows: int
) -> None:
    pieces = [Piece(i, 0, 1, size, rows) for i, (size, rows) in enumerate(sizes)]
    shards = cut(pieces, most_bytes, most_rows)
    assert [piece for shard in shards for piece in shard] == pieces
    for shard in shards:
        fits = sum(p.bytes for p in shard) <= most_bytes and sum(p.rows for p in shard) <= most_rows
        assert fits or len(shard) == 1


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_file_of_lines_is_cut_between_lines_and_loses_none(content: bytes, target: int) -> None:
    def begins(position: int) -> int:
        if position == 0:
            return 0
        found = content.find(b"\n", position - 1)
        return len(content) if found < 0 else found + 1

    found = stretches(len(content), begins, target)
    assert b"".join(content[start:stop] for start, stop in found) == content
    assert all(start < stop for start, stop in found)
    assert all(start == 0 or content[start - 1 : start] == b"\n" for start, _ in found)
