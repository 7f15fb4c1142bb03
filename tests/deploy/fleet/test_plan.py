"""From what is there to what is wanted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.names import Color
from deploy.fleet.plan import Plan, Present, plan, single, worker_id
from deploy.ports import Placement, WorkerState

ONE = Placement("digits", 1, Color.BLUE, "sha-1", "/packages/sha-1")
TWO = Placement("digits", 2, Color.GREEN, "sha-2", "/packages/sha-2")


def worker(placement: Placement = ONE, replica: int = 0, state: WorkerState = WorkerState.READY) -> Present:
    return Present(worker_id(placement, replica), single(placement), replica, state)


def test_what_is_missing_is_started_and_what_is_not_wanted_drains():
    assert plan([worker(ONE)], [TWO], [ONE]) == Plan(start=((TWO, 0),), drain=("digits-1-blue-0",))


def test_what_is_there_already_is_left_alone():
    assert plan([worker(ONE), worker(TWO)], [ONE, TWO], []) == Plan()


def test_fewer_replicas_keep_the_workers_that_serve():
    there = [worker(ONE, 0, WorkerState.BROKEN), worker(ONE, 1, WorkerState.STARTING), worker(ONE, 2)]
    assert plan(there, [ONE], [ONE]) == Plan(drain=("digits-1-blue-0", "digits-1-blue-1"))


def test_a_changed_package_or_thread_count_replaces_the_worker():
    for changed in (replace(ONE, digest="sha-9"), replace(ONE, threads=2)):
        assert plan([worker(ONE)], [changed], [ONE]) == Plan(start=((changed, 1),), drain=("digits-1-blue-0",))


def test_how_wide_or_how_urgent_a_start_would_be_is_no_reason_to_replace_a_worker():
    for changed in (replace(ONE, share=3), replace(ONE, gentle=True)):
        assert plan([worker(ONE)], [changed], [ONE]) == Plan()


def test_a_draining_worker_neither_counts_nor_lends_its_name():
    there = [worker(ONE, 0, WorkerState.DRAINING)]
    assert plan(there, [ONE], []) == Plan(start=((ONE, 1),))


def test_a_broken_worker_is_tried_again_only_when_its_placement_changed():
    there = [worker(ONE, 0, WorkerState.BROKEN)]
    assert plan(there, [ONE], [ONE]) == Plan()
    wider = replace(ONE, replicas=2)
    assert plan(there, [wider], [ONE]) == Plan(start=((ONE, 1),), revive=("digits-1-blue-0",))


def test_a_contradiction_is_refused_by_name():
    with pytest.raises(InvalidInput, match=r"digits/1 \(blue\).*wanted twice"):
        plan([], [ONE, replace(ONE, threads=4)], [])
    with pytest.raises(InvalidInput, match=r"digits/1 \(blue\): expected at least 1 replica, got 0"):
        plan([], [replace(ONE, replicas=0)], [])


placements = st.builds(
    Placement,
    model=st.sampled_from(["a", "a-1", "b.c"]),
    version=st.integers(1, 3),
    color=st.sampled_from(Color),
    digest=st.sampled_from(["x", "y"]),
    package=st.just("/p"),
    replicas=st.integers(1, 3),
)
fleets = st.lists(placements, max_size=5, unique_by=lambda p: (p.model, p.version, p.color))


@given(before=fleets, wanted=fleets, draining=st.sets(st.integers(0, 14)))
def test_carrying_a_plan_out_gives_exactly_what_is_wanted(
    before: list[Placement], wanted: list[Placement], draining: set[int]
):
    there = [worker(p, replica) for p in before for replica in range(p.replicas)]
    there = [replace(w, state=WorkerState.DRAINING) if n in draining else w for n, w in enumerate(there)]
    steps = plan(there, wanted, before)
    serving = [w for w in there if w.state is not WorkerState.DRAINING and w.id not in steps.drain]
    serving += [worker(p, replica) for p, replica in steps.start]
    assert len({w.id for w in [*there, *[worker(p, r) for p, r in steps.start]]}) == len(there) + len(steps.start)
    counts = {single(p): p.replicas for p in wanted}
    assert {p: [w.placement for w in serving].count(p) for p in counts} == counts
    assert {w.placement for w in serving} == set(counts)
