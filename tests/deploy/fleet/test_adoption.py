"""What a restarted control plane concludes from its ledger and from /proc."""

from contracts.names import Color
from deploy.fleet.adoption import incarnation, placement, sort_out, worker_spec
from deploy.fleet.ledger import ProcessKind, ProcessRecord
from deploy.fleet.procfs import Identity, Marked
from deploy.ports import Placement

PLACE = Placement("digits", 1, Color.BLUE, "sha-1", "/packages/sha-1", threads=2)
MARK = "digits-1-blue-0@aa"


def record(pid: int | None = 100, ticks: int | None = 7, spec: str | None = None) -> ProcessRecord:
    return ProcessRecord(
        id="digits-1-blue-0",
        kind=ProcessKind.WORKER,
        model="digits",
        version=1,
        color="blue",
        replica=0,
        pid=pid,
        start_ticks=ticks,
        socket="/run/w-aa.sock",
        spec=worker_spec(MARK, PLACE) if spec is None else spec,
        started_at=0.0,
    )


def process(pid: int, ticks: int = 7, mark: str = MARK, session: int | None = None) -> Marked:
    return Marked(Identity(pid, ticks), mark, pid if session is None else session)


def test_a_recorded_process_that_runs_is_adopted():
    found = sort_out([record()], [process(100)])
    assert found.living == ((record(), Identity(100, 7)),)
    assert not found.gone
    assert not found.orphans


def test_a_process_with_the_same_pid_and_another_start_is_somebody_else():
    found = sort_out([record()], [])
    assert found.gone == (record(),)
    recycled_by_ours = process(100, ticks=8)
    found = sort_out([record()], [recycled_by_ours])
    assert found.gone == (record(),)
    assert found.orphans == (recycled_by_ours,)


def test_a_crash_between_spawn_and_record_is_mended_through_the_mark():
    intent = record(pid=None, ticks=None)
    child = process(201, session=200)
    assert sort_out([intent], [child, process(200)]).living == ((intent, Identity(200, 7)),)
    assert sort_out([intent], []).gone == (intent,)


def test_children_of_a_living_process_are_its_own_business_and_those_of_a_dead_one_are_orphans():
    child = process(101, session=100)
    assert sort_out([record()], [process(100), child]).orphans == ()
    assert sort_out([record()], [child]).orphans == (child,)


def test_a_process_nobody_recorded_is_an_orphan():
    stranger = process(300, mark="digits-1-blue-0@bb")
    assert sort_out([record()], [process(100), stranger]).orphans == (stranger,)


def test_a_record_of_another_teal_is_not_guessed_at():
    for spec in ("", "[]", "{}", "not json", '{"incarnation": 7}'):
        odd = record(spec=spec)
        assert incarnation(odd) is None
        assert placement(odd) is None
        found = sort_out([odd], [process(100)])
        assert found.gone == (odd,)
        assert found.orphans == (process(100),)


def test_a_placement_survives_its_record():
    assert placement(record()) == PLACE
