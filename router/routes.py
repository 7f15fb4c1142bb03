"""One model's routes: which request goes to which of its versions, and what is answered without a worker.

Pure, one model at a time, so that it can be kept per model and so that a table of ten thousand models costs a request
no more than a table of ten (router/route_table.py). What reaches these lists already has a path and a verb that exist.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteList,
    RouteMatch,
    WeightedCluster,
)
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from contracts.limits import Limits
from contracts.names import HEADER_COLOR, HEADER_KEY, HEADER_MIRRORED, HEADER_MODEL, HEADER_VERSION, Color
from contracts.traffic import Mirror, TrafficSplit
from router import answers, messages, rpc
from router.clusters import clusters_of, name_of
from router.fragments import Fragment, Outline, Tree, body_over, direct, header, longest_wait
from router.naming import MIRROR, PINNED, PREDICT, package_of, split_name
from router.stencil import Texts
from router.table import Backend, ModelRoutes

LABEL_LIVE = "live"
# Bodies that are numbers as they are may be as long as any binary one: gRPC messages and arrays as numpy saves them.
_IS_TEXT = tuple(
    HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix=kind, ignore_case=True),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    for kind in ("application/grpc", "application/x-npy")
)
V2_ENDS = "(/versions/[^/]+)?(/infer|/ready|/stats|/config)?"  # of the paths that exist, whatever the verb


@dataclass(frozen=True)
class Sort:
    """What the routes of a model are made of besides its name and the digests of its packages, whose lengths stand
    first: models of one sort have routes that differ in these texts only."""

    lengths: tuple[int, ...]
    backends: tuple[tuple[int, Color, bool], ...]  # version, place, whether it has an endpoint
    split: TrafficSplit
    labels: tuple[tuple[str, int], ...]
    mirror: Mirror | None

    def built(self, texts: Texts, limits: Limits) -> Fragment:
        """The fragment of the model of this sort with this name and these digests."""
        model, *packages = texts
        backends = tuple(
            Backend(version, package, color, ("/",) if reachable else ())
            for (version, color, reachable), package in zip(self.backends, packages, strict=True)
        )
        here = _Model(ModelRoutes(model, backends, self.split, dict(self.labels), self.mirror), limits)
        v1, v2 = f"/v1/models/{model}", f"/v2/models/{model}"
        return Fragment.of(
            model,
            {
                (Tree.KNOWN, v1): RouteList(routes=here.v1(v1)),
                (Tree.KNOWN, v2): RouteList(routes=here.v2(v2)),
                (Tree.OTHER, v1): RouteList(routes=here.wrong_v1(v1)),
                (Tree.OTHER, v2): RouteList(routes=here.wrong_v2(v2)),
            },
        )


def fragment(routes: ModelRoutes, limits: Limits) -> Fragment:
    """The routes of one model. The same value gives the same bytes, and is made once while it is in use."""
    return _fragment(*sort_of(routes), limits)


def sort_of(routes: ModelRoutes) -> tuple[Sort, Texts]:
    """What sort of model it is, and its own texts."""
    texts = (routes.model, *(package_of(b) for b in routes.backends))
    backends = tuple((b.version, b.color, bool(b.endpoints)) for b in routes.backends)
    labels = tuple(sorted(routes.labels.items()))
    return Sort(tuple(map(len, texts)), backends, routes.split, labels, routes.mirror), texts


def outline(sort: Sort, limits: Limits) -> Outline:
    """What the fragments of all models of a sort have in common."""
    return Outline.of(lambda texts: sort.built(texts, limits), sort.lengths)


@lru_cache(maxsize=20_000)
def _fragment(sort: Sort, texts: Texts, limits: Limits) -> Fragment:
    if next(_made_before(sort, limits)) == 0:  # an outline costs as much as three or four fragments
        return sort.built(texts, limits)
    return _outline(sort, limits).filled(texts[0], texts)


@lru_cache(maxsize=4096)
def _made_before(sort: Sort, limits: Limits) -> Iterator[int]:
    """How many models of this sort have been made so far."""
    return count()


_outline = lru_cache(maxsize=256)(outline)


class _Model:
    """The lists of one model. In a list the first match wins, so what is narrower stands first.

    A list is reached by the longest known prefix: with only `digits` deployed, `/v1/models/digits2:predict` gets here
    too, matches nothing, and is told that there is no such model.
    """

    def __init__(self, routes: ModelRoutes, limits: Limits) -> None:
        self.routes, self.limits = routes, limits
        self.model_header = [header(HEADER_MODEL, routes.model)]
        self.timeout = longest_wait(limits)
        # Several routes lead to each backend: what they share is made once.
        self.names = {(kind, b): name_of(kind, routes, b, limits) for kind, b in clusters_of(routes)}
        single = PINNED if len(routes.backends) > 1 else PREDICT
        self.actions = {b: RouteAction(cluster=self.names[single, b], timeout=self.timeout) for b in routes.backends}
        self.headers = {b: [*self.model_header, *_version_headers(b)] for b in routes.backends}

    def v1(self, base: str) -> Iterable[Any]:
        backends = self.routes.backends
        for prefix in (f"{base}:", f"{base}/"):
            yield self._too_large(prefix, self.limits.json_body, *_IS_TEXT)
            yield self._too_large(prefix, self.limits.binary_body)
        yield self._split(RouteMatch(prefix=f"{base}:"))
        yield rpc.renumbered(RouteMatch(prefix=f"{base}/versions/0"))
        for backend in backends:
            yield self._to(backend, _regex(f"{base}/({self._names_of(backend)})[:/].*"))
        yield self._to(self._live(), RouteMatch(path=f"{base}/metadata"))
        for match, said in self._statuses(base):
            yield rpc.asked(match, self.limits, self.model_header)
            yield self._answer(match, 200, answers.status(said))
        yield self._answer(RouteMatch(prefix=f"{base}/versions/"), 404, answers.unknown_version(self.routes))
        yield self._answer(RouteMatch(prefix=f"{base}/labels/"), 400, answers.unknown_label(self.routes))

    def v2(self, base: str) -> Iterable[Any]:
        yield self._too_large(f"{base}/", self.limits.binary_body)
        yield self._split(RouteMatch(path=f"{base}/infer"))
        for backend in self.routes.backends:
            yield self._to(backend, RouteMatch(path_separated_prefix=f"{base}/versions/{backend.version}"))
        yield self._answer(RouteMatch(prefix=f"{base}/versions/"), 404, answers.unknown_version(self.routes))
        yield self._to(self._live(), RouteMatch(path_separated_prefix=base))

    def wrong_v1(self, base: str) -> Iterable[Any]:
        for match, said in self._statuses(base):
            yield rpc.answered(match, messages.status(said))
        yield self._answer(RouteMatch(prefix=f"{base}:"), 400, answers.MALFORMED_V1)
        yield self._answer(RouteMatch(path_separated_prefix=base), 400, answers.MALFORMED_V1)
        yield direct(RouteMatch(prefix="/"), 400, answers.MALFORMED_V1)

    def wrong_v2(self, base: str) -> Iterable[Any]:
        yield self._answer(_regex(base + V2_ENDS), 405, answers.WRONG_V2)
        yield self._answer(RouteMatch(path_separated_prefix=base), 404, answers.WRONG_V2)
        yield direct(RouteMatch(prefix="/"), 404, answers.WRONG_V2)

    def _statuses(self, base: str) -> Iterable[tuple[Any, tuple[Backend, ...]]]:
        """What asks for the state of which backends. A label asks for all, as with TensorFlow Serving."""
        backends, labels = self.routes.backends, self.routes.labels
        yield _regex(f"{base}(/labels/({'|'.join(sorted(labels))}))?") if labels else RouteMatch(path=base), backends
        for backend in backends:
            yield RouteMatch(path=f"{base}/versions/{backend.version}"), (backend,)

    def _names_of(self, backend: Backend) -> str:
        """How a v1 path names this backend, as a pattern: by version or by label."""
        labels = [label for label, version in sorted(self.routes.labels.items()) if version == backend.version]
        return "|".join((f"versions/{backend.version}", *(f"labels/{label}" for label in labels)))

    def _live(self) -> Backend:
        """The backend that answers for the model as a whole: the one labelled live, else the one with most traffic."""
        live = self.routes.labels.get(LABEL_LIVE)
        by_share = sorted(self.routes.backends, key=lambda b: (-self.routes.split.share(b.color), b.color))
        return next((b for b in self.routes.backends if b.version == live), by_share[0])

    def _split(self, match: Any) -> Any:
        if len(self.routes.backends) == 1:
            return self._to(self.routes.backends[0], match)
        # Always blue then green, always both, always the same total: so a key's place in the hash intervals never
        # moves except by the change of weight itself, and raising a share never takes a key back.
        arms = [
            WeightedCluster.ClusterWeight(
                name=self.names[PREDICT, backend],
                weight=UInt32Value(value=self.routes.split.share(color)),
                response_headers_to_add=_version_headers(backend),
            )
            for color in (Color.BLUE, Color.GREEN)
            if (backend := self.routes.backend(color)) is not None
        ]
        action = RouteAction(
            weighted_clusters=WeightedCluster(
                clusters=arms,
                use_hash_policy=BoolValue(value=True),
                runtime_key_prefix=split_name(self.routes.model, self.routes.backends),
            ),
            hash_policy=[RouteAction.HashPolicy(header=RouteAction.HashPolicy.Header(header_name=HEADER_KEY))],
            request_mirror_policies=self._mirrors(),
            timeout=self.timeout,
        )
        return Route(match=match, route=action, response_headers_to_add=self.model_header)

    def _mirrors(self) -> Iterable[Any]:
        """The copy has the same request id, so that the two answers can be told to be of one request."""
        mirror = self.routes.mirror
        backend = self.routes.backend(mirror.color) if mirror is not None else None
        if mirror is None or backend is None:
            return
        share = FractionalPercent(numerator=mirror.units, denominator=FractionalPercent.TEN_THOUSAND)
        yield RouteAction.RequestMirrorPolicy(
            cluster=self.names[MIRROR, backend],
            runtime_fraction=RuntimeFractionalPercent(default_value=share),
            disable_shadow_host_suffix_append=True,
            request_headers_mutations=[HeaderMutation(append=header(HEADER_MIRRORED, "1"))],
        )

    def _to(self, backend: Backend, match: Any) -> Any:
        return Route(match=match, route=self.actions[backend], response_headers_to_add=self.headers[backend])

    def _too_large(self, prefix: str, limit: int, *more: Any) -> Any:
        """What says that it is over the limit is refused here. A worker that refuses hangs up on a body still under
        way, and Envoy, which is writing, then often sees the broken pipe first and tells the caller to try again."""
        match = RouteMatch(prefix=prefix, headers=[body_over(limit), *more])
        return self._answer(match, 413, answers.too_large(limit))

    def _answer(self, match: Any, status: int, text: str) -> Any:
        return direct(match, status, text, self.model_header)


def _version_headers(backend: Backend) -> list[Any]:
    return [header(HEADER_VERSION, str(backend.version)), header(HEADER_COLOR, backend.color.value)]


def _regex(pattern: str) -> Any:
    """A dot in a model's name stands for itself all the same: its list is reached by the name (router/route_table.py).
    Envoy compiles a pattern for each model, and one takes as much of its memory as two or three plain routes."""
    return RouteMatch(safe_regex=RegexMatcher(regex=pattern))
