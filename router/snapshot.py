"""A whole configuration of Envoy that is known to fit together, made from a routing table.

There is no other way to configure Envoy than a Snapshot, and none can be constructed in which a route leads nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256

from envoy.service.runtime.v3.rtds_pb2 import Runtime

from contracts.errors import Internal
from contracts.limits import LIMITS, Limits
from contracts.traffic import TOTAL, TrafficSplit
from router import clusters
from router.bootstrap import WEIGHTS
from router.fragments import Fragment
from router.listener import ROUTES
from router.messages import Deployed
from router.naming import KINDS, PREDICT, cluster_name, split_name
from router.route_table import TURNS, assemble, standing, table_mark, turn_key
from router.routes import LABEL_LIVE, fragment
from router.rpc import services
from router.table import ModelRoutes, RoutingTable

Arms = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Resource:
    """One serialized xDS message and the version Envoy knows it by: a digest of it, so equal means equal."""

    version: str
    body: bytes

    @classmethod
    def of(cls, body: bytes) -> "Resource":
        return cls(sha256(body).hexdigest()[:16], body)


@dataclass(frozen=True)
class Snapshot:
    """Clusters, their endpoints and the routes to them.

    base            model → the split that its routes say, where it has one
    arms            model → its clusters that a split leads to, and what Envoy's runtime calls their weights
    overrides       such a name → units: splits that have changed since the routes were made
    turn            tells these overrides from those before; 0 for none
    former_routes   the routes, when they are those that were made before
    shares          cluster name → units of its model's traffic, for every cluster; 0 for those of no split
    populated       names of the clusters that have an endpoint
    everyone_ready  every model has an endpoint somewhere
    Raises Internal, naming the first thing that does not fit.
    """

    clusters: Mapping[str, Resource]
    endpoints: Mapping[str, Resource]
    fragments: tuple[Fragment, ...]
    shares: Mapping[str, int]
    populated: frozenset[str]
    everyone_ready: bool
    base: Mapping[str, TrafficSplit] = field(default_factory=dict)
    arms: Mapping[str, Arms] = field(default_factory=dict)
    overrides: Mapping[str, int] = field(default_factory=dict)
    turn: int = 0
    former_routes: Mapping[str, Resource] | None = None

    def __post_init__(self) -> None:
        for name in self.clusters.keys() - self.endpoints.keys():
            raise Internal(f"snapshot: cluster {name} has no assignment of endpoints")
        for name in self.endpoints.keys() - self.clusters.keys():
            raise Internal(f"snapshot: endpoints are assigned to cluster {name}, which does not exist")
        for part in self.fragments:
            # One by one: the difference of two sets would copy all names for each model.
            for name in part.clusters:
                if name not in self.clusters:
                    raise Internal(
                        f"snapshot: a route of model {part.model} leads to cluster {name}, which does not exist"
                    )
            for total in part.totals:
                if total != TOTAL:
                    raise Internal(f"snapshot: weights of model {part.model} add up to {total}, not {TOTAL}")
        for name in (self.shares.keys() | self.populated) - self.clusters.keys():
            raise Internal(f"snapshot: facts are stated of cluster {name}, which does not exist")

    @cached_property
    def mark(self) -> str:
        """Stands for the route table."""
        return table_mark(self.fragments, self.everyone_ready)

    @property
    def standing(self) -> str:
        """Stands for routes and weights; what Envoy says at router.route_table.PATH_TABLE."""
        return standing(self.mark, self.turn)

    @cached_property
    def weights(self) -> Mapping[str, Resource]:
        """Envoy's layer of runtime that holds the overrides."""
        return self._layer(self.overrides)

    def ahead_to(self, wanted: "Snapshot") -> Mapping[str, Resource] | None:
        """Weights under which today's routes divide traffic as `wanted` does, as far as they can; None when they do
        already. They are in force at once, however long the routes of `wanted` take: a version that is rolled back
        leaves the routes, too, and must not keep its share until then."""
        changed: dict[str, int] = {}
        for arms in self.arms.values():
            shares = {key: wanted.shares.get(cluster, 0) for cluster, key in arms}
            if sum(shares.values()) == TOTAL and any(wanted.shares.get(c, 0) != self.shares[c] for c, _ in arms):
                changed |= shares
        return self._layer({**self.overrides, **changed}) if changed else None

    def _layer(self, overrides: Mapping[str, int]) -> Mapping[str, Resource]:
        layer = Runtime(name=WEIGHTS)
        layer.layer.update({**overrides, **({turn_key(self.turn): 100} if self.turn else {})})
        return {WEIGHTS: Resource.of(layer.SerializeToString(deterministic=True))}

    @cached_property
    def routes(self) -> Mapping[str, Resource]:
        if self.former_routes is not None:
            return self.former_routes
        body = assemble(self.fragments, self.everyone_ready, self.mark).SerializeToString(deterministic=True)
        return {ROUTES: Resource(self.mark, body)}

    @cached_property
    def version(self) -> str:
        """One word for all of it."""
        whole = sha256(self.mark.encode())
        for resources in (self.clusters, self.endpoints, self.weights):
            for name in sorted(resources):
                whole.update(f"{name} {resources[name].version}\n".encode())
        return whole.hexdigest()[:12]


def follow(former: Snapshot | None, table: RoutingTable, limits: Limits = LIMITS) -> Snapshot:
    """The Snapshot of a table for Envoys that have `former`. Where nothing but weights has changed, the routes stay
    what they are, and runtime says what is different: Envoy makes a whole route table anew for the sake of one number,
    which takes it seconds with ten thousand models."""
    if former is not None:
        made = build(table, limits, former.base)
        if made.mark == former.mark:
            turn = former.turn if made.overrides == former.overrides else former.turn % TURNS + 1
            return replace(made, turn=turn, former_routes=former.routes)
    return build(table, limits)


def build(table: RoutingTable, limits: Limits = LIMITS, base: Mapping[str, TrafficSplit] | None = None) -> Snapshot:
    """The Snapshot of a table: the same table always gives the same bytes. What did not change is not built again.
    `base` are splits that the routes should say whatever today's are."""
    common = {kind: clusters.settings(kind, limits) for kind in KINDS}
    made_clusters: dict[str, Resource] = {}
    endpoints: dict[str, Resource] = {}
    shares: dict[str, int] = {}
    populated: set[str] = set()
    for routes in table.models:
        for kind, backend in clusters.clusters_of(routes):
            name = cluster_name(kind, routes.model, backend, common[kind].digest)
            made_clusters[name] = _cluster(name, common[kind])
            endpoints[name] = _assignment(name, backend.endpoints)
            shares[name] = routes.split.share(backend.color) if kind == PREDICT else 0
            if backend.endpoints:
                populated.add(name)
    stated = [_stated(routes, base.get(routes.model) if base else None) for routes in table.models]
    moved = [routes for routes, said in zip(table.models, stated, strict=True) if said is not routes]
    arms = {routes.model: _arms(routes, limits) for routes in table.models if len(routes.backends) > 1}
    deployed = tuple(
        Deployed(routes.model, backend.version, bool(backend.endpoints))
        for routes in table.models
        for backend in sorted(routes.backends, key=lambda b: b.version)
    )
    everyone_ready = all(any(b.endpoints for b in routes.backends) for routes in table.models)
    models = (fragment(routes, limits) for routes in stated)
    return Snapshot(
        clusters=made_clusters,
        endpoints=endpoints,
        fragments=(*models, services(deployed, everyone_ready, limits)),
        shares=shares,
        populated=frozenset(populated),
        everyone_ready=everyone_ready,
        base={routes.model: routes.split for routes in stated if len(routes.backends) > 1},
        arms=arms,
        overrides={key: shares[name] for routes in moved for name, key in arms[routes.model]},
    )


def _stated(routes: ModelRoutes, split: TrafficSplit | None) -> ModelRoutes:
    """The model with the split that its routes should say, as far as it can have one that is not today's: without a
    label for the live version it is the split that says which that is."""
    if split is None or split == routes.split or len(routes.backends) < 2 or LABEL_LIVE not in routes.labels:
        return routes
    return replace(routes, split=split)


def _arms(routes: ModelRoutes, limits: Limits) -> Arms:
    prefix = split_name(routes.model, routes.backends)
    names = (clusters.name_of(PREDICT, routes, backend, limits) for backend in routes.backends)
    return tuple((name, f"{prefix}.{name}") for name in names)


@lru_cache(maxsize=80_000)
def _cluster(name: str, common: clusters.Settings) -> Resource:
    return Resource.of(clusters.cluster(name, common))


@lru_cache(maxsize=80_000)
def _assignment(name: str, endpoints: tuple[str, ...]) -> Resource:
    return Resource.of(clusters.assignment(name, endpoints))
