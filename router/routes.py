"""One model's routes: which request goes to which of its versions, and what is answered without a worker.

Pure, one model at a time, so that it can be kept per model and so that a table of ten thousand models costs a request
no more than a table of ten (router/route_table.py). What reaches these lists already has a path and a verb that exist.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteAction,
    RouteList,
    RouteMatch,
    WeightedCluster,
)
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.v3.range_pb2 import Int64Range
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from contracts.limits import Limits
from contracts.names import HEADER_COLOR, HEADER_KEY, HEADER_MODEL, HEADER_VERSION, Color
from router import answers
from router.clusters import name_of
from router.table import Backend, ModelRoutes

LABEL_LIVE = "live"
MOST_BYTES = 2**63 - 1  # what Envoy reads as a number
GRACE_SECONDS = 1.0  # the worker's own 504 knows more than Envoy's, so it gets this long to come first


class Tree(StrEnum):
    """Which of the two prefix trees a list hangs in."""

    KNOWN = "known"  # path and verb exist
    WRONG = "wrong"  # they do not: the list only names the model and says what was expected


@dataclass(frozen=True)
class Fragment:
    """One model's part of the route table, already serialized, with the facts that a Snapshot checks.

    `lists` are (tree, path prefix, RouteList bytes); `clusters` every cluster some route leads to; `totals` the sums of
    all weighted splits. Made only by `of`, from the very messages that are sent, so facts and bytes cannot differ.
    """

    model: str
    lists: tuple[tuple[Tree, str, bytes], ...]
    clusters: frozenset[str]
    totals: tuple[int, ...]

    @classmethod
    def of(cls, model: str, lists: Mapping[tuple[Tree, str], Any]) -> "Fragment":
        routes = [route for routes in lists.values() for route in routes.routes]
        splits = [r.route.weighted_clusters.clusters for r in routes if r.route.HasField("weighted_clusters")]
        single = {r.route.cluster for r in routes if r.route.HasField("cluster")}
        return cls(
            model=model,
            lists=tuple((tree, key, made.SerializeToString(deterministic=True)) for (tree, key), made in lists.items()),
            clusters=frozenset(single | {arm.name for split in splits for arm in split}),
            totals=tuple(sum(arm.weight.value for arm in split) for split in splits),
        )

    @cached_property
    def digest(self) -> bytes:
        whole = sha256()
        for tree, key, body in self.lists:
            whole.update(f"{tree} {key} {len(body)}\n".encode())
            whole.update(body)
        return whole.digest()


def fragment(routes: ModelRoutes, limits: Limits) -> Fragment:
    """The routes of one model. The same value gives the same bytes, and is built once while it is in use."""
    key = (routes.model, routes.backends, routes.split, tuple(sorted(routes.labels.items())))
    return _fragment(key, limits)


@lru_cache(maxsize=20_000)
def _fragment(key: tuple[Any, ...], limits: Limits) -> Fragment:
    model, backends, split, labels = key
    here = _Model(ModelRoutes(model, backends, split, dict(labels)), limits)
    v1, v2 = f"/v1/models/{model}", f"/v2/models/{model}"
    return Fragment.of(
        model,
        {
            (Tree.KNOWN, v1): RouteList(routes=here.v1(v1)),
            (Tree.KNOWN, v2): RouteList(routes=here.v2(v2)),
            (Tree.WRONG, v1): RouteList(routes=here.wrong_v1(v1)),
            (Tree.WRONG, v2): RouteList(routes=here.wrong_v2(v2)),
        },
    )


class _Model:
    """The lists of one model. In a list the first match wins, so what is narrower stands first.

    A list is reached by the longest known prefix: with only `digits` deployed, `/v1/models/digits2:predict` gets here
    too, matches nothing, and is told that there is no such model.
    """

    def __init__(self, routes: ModelRoutes, limits: Limits) -> None:
        self.routes, self.limits = routes, limits
        self.model_header = [header(HEADER_MODEL, routes.model)]
        self.timeout = Duration()
        self.timeout.FromMilliseconds(round((limits.request_seconds + GRACE_SECONDS) * 1000))
        # Several routes lead to each backend: what they share is made once.
        self.names = {b: name_of(routes, b, limits) for b in routes.backends}
        self.actions = {b: RouteAction(cluster=name, timeout=self.timeout) for b, name in self.names.items()}
        self.headers = {b: [*self.model_header, *_version_headers(b)] for b in routes.backends}

    def v1(self, base: str) -> Iterable[Any]:
        backends, labels = self.routes.backends, self.routes.labels
        for prefix in (f"{base}:", f"{base}/"):
            yield self._too_large(prefix, self.limits.json_body)
        yield self._split(RouteMatch(prefix=f"{base}:"))
        for backend in backends:
            yield self._to(backend, _regex(self._pinned_v1(base, backend)))
        any_label = "|".join(re.escape(name) for name in sorted(labels))
        yield self._answer(
            _regex(f"{re.escape(base)}(/labels/({any_label}))?") if labels else RouteMatch(path=base),
            200,
            answers.status(backends),
        )
        for backend in backends:
            match = RouteMatch(path=f"{base}/versions/{backend.version}")
            yield self._answer(match, 200, answers.status((backend,)))
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
        yield self._answer(RouteMatch(prefix=f"{base}:"), 400, answers.MALFORMED_V1)
        yield self._answer(RouteMatch(path_separated_prefix=base), 400, answers.MALFORMED_V1)
        yield direct(RouteMatch(prefix="/"), 400, answers.MALFORMED_V1)

    def wrong_v2(self, base: str) -> Iterable[Any]:
        yield self._answer(RouteMatch(path_separated_prefix=base), 404, answers.WRONG_V2)
        yield direct(RouteMatch(prefix="/"), 404, answers.WRONG_V2)

    def _pinned_v1(self, base: str, backend: Backend) -> str:
        """Every v1 path that names this backend: by version, by label, and, for the live one, metadata without either.

        TensorFlow Serving reads versions as numbers, so leading zeros are fine.
        """
        names = [f"versions/0*{backend.version}"]
        names += [f"labels/{re.escape(n)}" for n, v in sorted(self.routes.labels.items()) if v == backend.version]
        pattern = f"{re.escape(base)}/(({'|'.join(names)})[:/].*"
        return pattern + ("|metadata)" if backend == self._live() else ")")

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
                name=self.names[backend],
                weight=UInt32Value(value=self.routes.split.share(color)),
                response_headers_to_add=_version_headers(backend),
            )
            for color in (Color.BLUE, Color.GREEN)
            if (backend := self.routes.backend(color)) is not None
        ]
        action = RouteAction(
            weighted_clusters=WeightedCluster(clusters=arms, use_hash_policy=BoolValue(value=True)),
            hash_policy=[RouteAction.HashPolicy(header=RouteAction.HashPolicy.Header(header_name=HEADER_KEY))],
            timeout=self.timeout,
        )
        return Route(match=match, route=action, response_headers_to_add=self.model_header)

    def _to(self, backend: Backend, match: Any) -> Any:
        return Route(match=match, route=self.actions[backend], response_headers_to_add=self.headers[backend])

    def _too_large(self, prefix: str, limit: int) -> Any:
        """What says that it is over the limit is refused here. A worker that refuses hangs up on a body still under
        way, and Envoy, which is writing, then often sees the broken pipe first and tells the caller to try again."""
        length = HeaderMatcher(name="content-length", range_match=Int64Range(start=limit + 1, end=MOST_BYTES))
        return self._answer(RouteMatch(prefix=prefix, headers=[length]), 413, answers.too_large(limit))

    def _answer(self, match: Any, status: int, text: str) -> Any:
        return direct(match, status, text, self.model_header)


def direct(match: Any, status: int, text: str, headers: Iterable[Any] = ()) -> Any:
    """A route that Envoy answers itself: JSON as it is with status 200, else a sentence that becomes {"error": …}."""
    action = DirectResponseAction(status=status, body=DataSource(inline_string=text))
    return Route(match=match, direct_response=action, response_headers_to_add=headers)


def header(name: str, value: str) -> Any:
    """A response header that replaces whatever a worker said."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _version_headers(backend: Backend) -> list[Any]:
    return [header(HEADER_VERSION, str(backend.version)), header(HEADER_COLOR, backend.color.value)]


def _regex(pattern: str) -> Any:
    return RouteMatch(safe_regex=RegexMatcher(regex=pattern))
