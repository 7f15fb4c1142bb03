"""Pieces of the route table, and the few words in which routes are written.

A fragment is one model's part of the table, or the part that belongs to all of them (router/rpc.py), serialized once
and kept while it is in use. Models that are alike but for their names and packages share an outline of theirs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, HeaderMatcher, Route
from envoy.type.v3.range_pb2 import Int64Range
from google.protobuf.duration_pb2 import Duration

from contracts.limits import Limits
from router.naming import STATIC, place_of
from router.stencil import Stencil, Texts, stencils

MOST_BYTES = 2**63 - 1  # what Envoy reads as a number
GRACE_SECONDS = 1.0  # the worker's own 504 knows more than Envoy's, so it gets this long to come first


class Tree(StrEnum):
    """Which of the two prefix trees a list hangs in."""

    KNOWN = "known"  # path and verb exist
    OTHER = "other"  # they do not: the list says what was expected, or is about no single model


@dataclass(frozen=True)
class Fragment:
    """A part of the route table, already serialized, with the facts that a Snapshot checks.

    `lists` are (tree, path prefix, RouteList bytes); `clusters` every cluster of the table that some route leads or
    copies to; `totals` the sums of all weighted splits. Made by `of`, from the very messages that are sent, or by an
    Outline of such, so facts and bytes cannot differ.
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
        copies = {mirror.cluster for r in routes for mirror in r.route.request_mirror_policies}
        return cls(
            model=model,
            lists=tuple((tree, key, made.SerializeToString(deterministic=True)) for (tree, key), made in lists.items()),
            clusters=frozenset(single | copies | {arm.name for split in splits for arm in split}) - STATIC,
            totals=tuple(sum(arm.weight.value for arm in split) for split in splits),
        )

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Everything in it that may hold a model's name or digests, in an order that does not depend on them."""
        texts = (*(key for _, key, _ in self.lists), *sorted(self.clusters, key=place_of))
        return (*(text.encode() for text in texts), *(body for _, _, body in self.lists))

    @cached_property
    def digest(self) -> bytes:
        whole = sha256()
        for tree, key, body in self.lists:
            whole.update(f"{tree} {key} {len(body)}\n".encode())
            whole.update(body)
        return whole.digest()


@dataclass(frozen=True)
class Outline:
    """What fragments have in common that differ in texts of the same lengths only (router/stencil.py)."""

    trees: tuple[Tree, ...]
    parts: tuple[Stencil, ...]
    totals: tuple[int, ...]

    @classmethod
    def of(cls, make: Callable[[Texts], Fragment], lengths: Sequence[int]) -> "Outline":
        one = make(tuple("a" * length for length in lengths))
        parts = stencils(lambda texts: make(texts).parts, lengths)
        return cls(tuple(tree for tree, _, _ in one.lists), parts, one.totals)

    def filled(self, model: str, texts: Sequence[str]) -> Fragment:
        """The fragment that `make` would have made of these texts."""
        filling = [text.encode() for text in texts]
        parts = [part.filled(filling) for part in self.parts]
        lists = len(self.trees)
        keys, clusters, bodies = parts[:lists], parts[lists:-lists], parts[-lists:]
        return Fragment(
            model=model,
            lists=tuple(zip(self.trees, (key.decode() for key in keys), bodies, strict=True)),
            clusters=frozenset(name.decode() for name in clusters),
            totals=self.totals,
        )


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


def body_over(limit: int) -> Any:
    """Matches a request that says that its body is longer than `limit` bytes."""
    return HeaderMatcher(name="content-length", range_match=Int64Range(start=limit + 1, end=MOST_BYTES))


def longest_wait(limits: Limits) -> Any:
    """How long Envoy waits for a worker."""
    made = Duration()
    made.FromMilliseconds(round((limits.request_seconds + GRACE_SECONDS) * 1000))
    return made
