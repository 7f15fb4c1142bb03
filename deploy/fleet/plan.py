"""Which workers to start, drain and revive so that the fleet becomes what is wanted. Pure: values in, values out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from contracts.errors import InvalidInput
from contracts.names import Color
from deploy.ports import Placement, WorkerState

PlaceKey = tuple[str, int, Color]


@dataclass(frozen=True)
class Present:
    """A worker that exists, in whatever state. `placement` is what it was started for, with replicas=1."""

    id: str
    placement: Placement
    replica: int
    state: WorkerState


@dataclass(frozen=True)
class Plan:
    """`start`: a placement (replicas=1) and the replica number of each worker to start."""

    start: tuple[tuple[Placement, int], ...] = ()
    drain: tuple[str, ...] = ()
    revive: tuple[str, ...] = ()


def worker_id(placement: Placement, replica: int) -> str:
    """The worker's name for people, URLs and log files: `digits-2-blue-0`. Unambiguous, because the last three parts
    hold no dash; safe in a path, because model names are."""
    return f"{placement.model}-{placement.version}-{placement.color}-{replica}"


def place_key(placement: Placement) -> PlaceKey:
    return placement.model, placement.version, placement.color


def single(placement: Placement) -> Placement:
    """The placement of one worker."""
    return replace(placement, replicas=1)


def plan(present: Collection[Present], wanted: Collection[Placement], before: Collection[Placement]) -> Plan:
    """The steps from `present` to `wanted`. `before` is what was wanted the last time: where a placement has changed
    since, its broken workers get another chance. Raises InvalidInput when `wanted` contradicts itself."""
    by_key = check_wanted(wanted)
    staying = [worker for worker in present if worker.state is not WorkerState.DRAINING]
    taken: dict[PlaceKey, set[int]] = {}
    for worker in present:
        taken.setdefault(place_key(worker.placement), set()).add(worker.replica)
    steps = _Steps()
    for worker in staying:
        target = by_key.get(place_key(worker.placement))
        if target is None or single(target) != worker.placement:
            steps.drain.append(worker.id)
    for key, placement in by_key.items():
        fitting = [w for w in staying if w.placement == single(placement)]
        kept = _most_useful(fitting, placement.replicas)
        steps.drain += [w.id for w in fitting if w not in kept]
        if placement not in before:
            steps.revive += [w.id for w in kept if w.state is WorkerState.BROKEN]
        for _ in range(placement.replicas - len(kept)):
            replica = _first_free(taken.setdefault(key, set()))
            taken[key].add(replica)
            steps.start.append((single(placement), replica))
    return Plan(tuple(steps.start), tuple(steps.drain), tuple(steps.revive))


@dataclass
class _Steps:
    start: list[tuple[Placement, int]] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    revive: list[str] = field(default_factory=list)


def check_wanted(wanted: Iterable[Placement]) -> dict[PlaceKey, Placement]:
    """`wanted` by place. Raises InvalidInput naming the placement that cannot be."""
    by_key: dict[PlaceKey, Placement] = {}
    for placement in wanted:
        name = f"{placement.model}/{placement.version} ({placement.color})"
        if placement.replicas < 1:
            raise InvalidInput(f"placement {name}: expected at least 1 replica, got {placement.replicas}")
        if by_key.setdefault(place_key(placement), placement) != placement:
            raise InvalidInput(f"placement {name} is wanted twice with different packages, threads or replicas")
    return by_key


_USEFUL = (WorkerState.READY, WorkerState.STARTING, WorkerState.WAITING, WorkerState.BROKEN)


def _most_useful(workers: Collection[Present], count: int) -> list[Present]:
    """The `count` workers to keep: those that serve before those that do not, older replica numbers first."""
    return sorted(workers, key=lambda w: (_USEFUL.index(w.state), w.replica))[:count]


def _first_free(taken: set[int]) -> int:
    return next(n for n in range(len(taken) + 1) if n not in taken)
