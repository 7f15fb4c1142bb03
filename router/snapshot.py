"""A whole configuration of Envoy that is known to fit together, made from a routing table.

There is no other way to configure Envoy than a Snapshot, and none can be constructed in which a route leads nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256

from contracts.errors import Internal
from contracts.limits import LIMITS, Limits
from contracts.traffic import TOTAL
from router import clusters
from router.fragments import Fragment
from router.listener import ROUTES
from router.messages import Deployed
from router.naming import PREDICT
from router.route_table import assemble, table_mark
from router.routes import fragment
from router.rpc import services
from router.table import RoutingTable


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
        """Stands for the route table; Envoy says it at router.route_table.PATH_TABLE."""
        return table_mark(self.fragments, self.everyone_ready)

    @cached_property
    def routes(self) -> Mapping[str, Resource]:
        body = assemble(self.fragments, self.everyone_ready, self.mark).SerializeToString(deterministic=True)
        return {ROUTES: Resource(self.mark, body)}

    @cached_property
    def version(self) -> str:
        """One word for all of it."""
        whole = sha256(self.mark.encode())
        for resources in (self.clusters, self.endpoints):
            for name in sorted(resources):
                whole.update(f"{name} {resources[name].version}\n".encode())
        return whole.hexdigest()[:12]


def build(table: RoutingTable, limits: Limits = LIMITS) -> Snapshot:
    """The Snapshot of a table: the same table always gives the same bytes. What did not change is not built again."""
    made_clusters: dict[str, Resource] = {}
    endpoints: dict[str, Resource] = {}
    shares: dict[str, int] = {}
    populated: set[str] = set()
    for routes in table.models:
        for kind, backend in clusters.clusters_of(routes):
            name = clusters.name_of(kind, routes, backend, limits)
            made_clusters[name] = _cluster(kind, name, limits)
            endpoints[name] = _assignment(name, backend.endpoints)
            shares[name] = routes.split.share(backend.color) if kind == PREDICT else 0
            if backend.endpoints:
                populated.add(name)
    deployed = tuple(
        Deployed(routes.model, backend.version, bool(backend.endpoints))
        for routes in table.models
        for backend in sorted(routes.backends, key=lambda b: b.version)
    )
    everyone_ready = all(any(b.endpoints for b in routes.backends) for routes in table.models)
    models = (fragment(routes, limits) for routes in table.models)
    return Snapshot(
        clusters=made_clusters,
        endpoints=endpoints,
        fragments=(*models, services(deployed, everyone_ready, limits)),
        shares=shares,
        populated=frozenset(populated),
        everyone_ready=everyone_ready,
    )


@lru_cache(maxsize=80_000)
def _cluster(kind: str, name: str, limits: Limits) -> Resource:
    return Resource.of(clusters.cluster(kind, name, limits))


@lru_cache(maxsize=80_000)
def _assignment(name: str, endpoints: tuple[str, ...]) -> Resource:
    return Resource.of(clusters.assignment(name, endpoints))
