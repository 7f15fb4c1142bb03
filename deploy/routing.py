"""From what is deployed and who is ready: which workers should exist, and what Envoy should do. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from contracts.names import Role
from contracts.traffic import Mirror
from deploy.ports import Placement, WorkerState, WorkerStatus
from deploy.rollout.deployment import Deployment, Place, State
from deploy.rollout.events import workers_of
from router.table import Backend, ModelRoutes, RoutingTable

PackageOf = Callable[[str], str]  # digest → directory


def placements(deployments: Iterable[Deployment], package_of: PackageOf) -> tuple[Placement, ...]:
    """Every version that should have workers, the one that stays warm for an undo included."""
    return tuple(
        replace(placement(deployment.model, place, package_of), gentle=_can_wait(deployment, role))
        for deployment in deployments
        for role, place in deployment.places()
    )


def _can_wait(d: Deployment, role: Role) -> bool:
    """A candidate that warms beside a live version. All others have traffic, or are the way back."""
    return d.state is State.WARMING and role is Role.CANDIDATE and d.live is not None


def placement(model: str, place: Place, package_of: PackageOf) -> Placement:
    package = package_of(place.digest)
    count = place.replicas
    return Placement(
        model, place.version, place.color, place.digest, package, count, threads=place.threads, share=count
    )


def joined(wanted: Iterable[Placement], routed: Iterable[Placement]) -> tuple[Placement, ...]:
    """What must exist while Envoy still routes by the former table: both, and the wider of the two where they share a
    place."""
    by_place = {(p.model, p.version, p.color): p for p in wanted}
    for old in routed:
        key = (old.model, old.version, old.color)
        now = by_place.get(key, old)
        by_place[key] = replace(now, replicas=max(now.replicas, old.replicas))
    return tuple(by_place.values())


def routing_table(
    deployments: Iterable[Deployment],
    workers: Collection[WorkerStatus],
    labels: Mapping[str, Mapping[str, int]],
) -> RoutingTable:
    """What Envoy should do now. A candidate enters once it was warm; after that its endpoints are whoever is ready,
    possibly nobody, and Envoy answers 503 for it at once."""
    by_model: dict[str, list[WorkerStatus]] = {}
    for worker in workers:
        by_model.setdefault(worker.model, []).append(worker)
    routes = (_routes(d, by_model.get(d.model, ()), labels.get(d.model, {})) for d in deployments)
    return RoutingTable(tuple(sorted((r for r in routes if r is not None), key=lambda r: r.model)))


def _routes(d: Deployment, workers: Collection[WorkerStatus], labels: Mapping[str, int]) -> ModelRoutes | None:
    split, places = d.split(), d.routed()
    if split is None:
        return None
    backends = tuple(
        Backend(p.version, p.digest, p.color, _endpoints(d.model, p, workers))
        for p in sorted(places, key=lambda p: p.color.value)
    )
    versions = {p.version for p in places}
    names = {label: version for label, version in labels.items() if version in versions}
    names |= {p.color.value: p.version for p in places}
    names |= {role.value: p.version for role, p in d.places() if role is not Role.PREVIOUS and p in places}
    return ModelRoutes(d.model, backends, split, names, _mirror(d))


def _mirror(d: Deployment) -> Mirror | None:
    units = d.mirrored()
    return Mirror(d.candidate.color, units) if units and d.candidate is not None else None


def _endpoints(model: str, place: Place, workers: Collection[WorkerStatus]) -> tuple[str, ...]:
    """The sockets of the ready workers, no more than wanted: when a version becomes narrower, those beyond lose their
    traffic first and are drained after. The fleet keeps the lowest numbers, and so does this order."""
    ready = [w for w in workers_of(model, place, workers) if w.state is WorkerState.READY]
    ready.sort(key=lambda w: (len(w.id), w.id))
    return tuple(w.endpoint for w in ready[: place.replicas])
