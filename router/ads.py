"""Envoy's aggregated discovery service, delta variant, over gRPC: everything of the protocol, and nothing else.

What to send, in which order and when a publish counts as done is decided in router/publisher.py; this file knows which
Envoy has which version of what, sends the differences, and tells who acknowledged or refused. Another transport
replaces this one file by the same four methods: start, stop, send, known.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import grpc
import grpc.aio
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as SentResource
from google.protobuf.any_pb2 import Any as AnyMessage

from contracts.clock import Clock
from router import reflection
from router.errors import PublishRefused, PublishTimedOut
from router.snapshot import Resource

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"
WILDCARD = "*"
UNCERTAIN = "?"  # Envoy has some version of this resource, and we cannot know which
MOST_WORDS = 2000  # of a refusal; Envoy may quote the whole message it refuses
MAX_REQUEST_BYTES = 64 * 1024 * 1024  # a reconnecting Envoy lists every resource it has


class Kind(StrEnum):
    """A type of resource. The order is the order in which they are made: a route needs its cluster to exist."""

    CLUSTERS = "clusters"
    ENDPOINTS = "endpoints"
    ROUTES = "routes"
    WEIGHTS = "weights"

    @property
    def type_url(self) -> str:
        return _TYPE_URLS[self]


_TYPE_URLS = {
    Kind.CLUSTERS: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    Kind.ENDPOINTS: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    Kind.ROUTES: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    Kind.WEIGHTS: "type.googleapis.com/envoy.service.runtime.v3.Runtime",
}
_KINDS = {url: kind for kind, url in _TYPE_URLS.items()}


class Observer(Protocol):
    """Is told the facts; telemetry counts them."""

    def acknowledged(self, kind: str, seconds: float) -> None: ...

    def refused(self, kind: str, words: str) -> None: ...

    def connected(self, nodes: int) -> None: ...


class Silent:
    """An Observer for those who do not count."""

    def acknowledged(self, kind: str, seconds: float) -> None:
        pass

    def refused(self, kind: str, words: str) -> None:
        pass

    def connected(self, nodes: int) -> None:
        pass


@dataclass(frozen=True)
class Offer:
    """The resources of one kind that every Envoy should have. Without `prune`, it may keep what it has beyond them."""

    resources: Mapping[str, Resource]
    prune: bool


@dataclass
class Subscription:
    """What one Envoy asked for of one kind, what it was sent, and what it said to that."""

    wildcard: bool
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)  # name → version, whether acknowledged yet or not
    acked: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    words: str = ""  # Envoy's, of the last refusal
    answered: bool = True  # False while Envoy waits to hear at least that there is nothing
    pending: dict[str, dict[str, str | None]] = field(default_factory=dict)  # nonce → name → version, None: removed

    def missing(self, offer: Offer) -> list[str]:
        """Names to send: asked for, not sent in this version, and not refused in this version before."""
        return [
            name
            for name, resource in offer.resources.items()
            if (self.wildcard or name in self.names)
            and self.sent.get(name) != resource.version
            and self.refused.get(name) != resource.version
        ]

    def surplus(self, offer: Offer) -> list[str]:
        return [name for name in self.sent if name not in offer.resources] if offer.prune else []

    def refusal(self, offer: Offer) -> str | None:
        """Envoy's words, if it refused something of this offer."""
        mine = any(offer.resources[n].version == v for n, v in self.refused.items() if n in offer.resources)
        return self.words if mine else None

    def has(self, offer: Offer) -> bool:
        """Whether every resource of the offer is acknowledged and, where pruning is asked, nothing else is left."""
        if any(self.acked.get(name) != resource.version for name, resource in offer.resources.items()):
            return False
        return not offer.prune or self.acked.keys() <= offer.resources.keys()

    def note_sent(self, nonce: str, offer: Offer, adds: list[str], removals: list[str]) -> None:
        batch: dict[str, str | None] = {name: offer.resources[name].version for name in adds}
        self.sent.update({name: offer.resources[name].version for name in adds})
        for name in removals:
            batch[name] = None
            self.sent.pop(name, None)
        self.pending[nonce] = batch

    def note_acknowledged(self, nonce: str) -> None:
        for name, version in self.pending.pop(nonce, {}).items():
            self.refused.pop(name, None)
            if version is None:
                self.acked.pop(name, None)
            elif name in self.sent:  # else Envoy unsubscribed while the answer was on its way
                self.acked[name] = version

    def note_refused(self, nonce: str, words: str) -> None:
        """Envoy may have taken some resources of a refused response and not others, and does not say which: so all of
        them are uncertain and will be sent again in any version but the refused one."""
        for name, version in self.pending.pop(nonce, {}).items():
            self.sent[name] = UNCERTAIN
            if version is not None:
                self.refused[name] = version
                self.acked.pop(name, None)
        self.words = words

    def ask(self, subscribe: list[str], unsubscribe: list[str]) -> None:
        for name in subscribe:
            if name == WILDCARD:
                self.wildcard = True
                continue
            # Asking again for what it has means that Envoy wants it again.
            self.sent.pop(name, None)
            self.acked.pop(name, None)
            self.names.add(name)
        for name in unsubscribe:
            self.names.discard(name)
            self.sent.pop(name, None)
            self.acked.pop(name, None)


class Conversation:
    """One stream, as values: hears requests, says responses. Knows no sockets and no clock."""

    def __init__(self) -> None:
        self.subscriptions: dict[Kind, Subscription] = {}
        self._nonce = 0

    def hear(self, request: Any) -> tuple[Kind, str] | None:
        """Take in one request. Returns the kind and Envoy's words when it refuses something."""
        kind = _KINDS.get(request.type_url)
        if kind is None:  # a type nobody here serves: Envoy keeps waiting for it, as the protocol wants
            return None
        subscribe, unsubscribe = list(request.resource_names_subscribe), list(request.resource_names_unsubscribe)
        subscription = self.subscriptions.get(kind)
        if subscription is None:
            # The first request of a type on a stream. After a reconnect it names what Envoy still has.
            held = dict(request.initial_resource_versions)
            named = {name for name in subscribe if name != WILDCARD}
            wildcard = not subscribe or WILDCARD in subscribe
            # An Envoy that asks for everything and has nothing does not go on starting until it is answered.
            self.subscriptions[kind] = Subscription(
                wildcard, named, sent=dict(held), acked=held, answered=bool(held) or not wildcard
            )
            return None
        subscription.ask(subscribe, unsubscribe)
        if not request.response_nonce:
            return None
        if request.HasField("error_detail"):
            words = request.error_detail.message[:MOST_WORDS]
            subscription.note_refused(request.response_nonce, words)
            return kind, words
        subscription.note_acknowledged(request.response_nonce)
        return None

    def say(self, offers: Mapping[Kind, Offer]) -> Iterator[Any]:
        """The responses due now.

        Even a stream that has missed several publishes makes before it breaks: routes wait until clusters and
        endpoints are settled, weights until the routes are that they belong to, and nothing is removed before the
        routes are settled. An Envoy that has no weights waits for them before it asks for anything else.
        """
        for kind in Kind:
            offer, subscription = offers.get(kind), self.subscriptions.get(kind)
            if offer is None or subscription is None:
                continue
            if kind is Kind.ROUTES and not (
                self._settled(Kind.CLUSTERS, offers) and self._settled(Kind.ENDPOINTS, offers)
            ):
                continue
            if kind is Kind.WEIGHTS and subscription.acked and not self._settled(Kind.ROUTES, offers):
                continue
            adds = subscription.missing(offer)
            removals = subscription.surplus(offer) if self._settled(Kind.ROUTES, offers) else []
            if adds or removals or not subscription.answered:
                yield self._response(kind, offer, subscription, adds, removals)

    def _settled(self, kind: Kind, offers: Mapping[Kind, Offer]) -> bool:
        """Nothing more to add and nothing unanswered. A refused version is settled: it will not be sent again."""
        offer, subscription = offers.get(kind), self.subscriptions.get(kind)
        if offer is None:
            return False
        if subscription is None:
            return not offer.resources
        return not subscription.pending and not subscription.missing(offer)

    def _response(
        self, kind: Kind, offer: Offer, subscription: Subscription, adds: list[str], removals: list[str]
    ) -> Any:
        self._nonce += 1
        nonce = str(self._nonce)
        response = DeltaDiscoveryResponse(type_url=kind.type_url, nonce=nonce, removed_resources=removals)
        for name in adds:
            resource = offer.resources[name]
            body = AnyMessage(type_url=kind.type_url, value=resource.body)
            response.resources.append(SentResource(name=name, version=resource.version, resource=body))
        subscription.note_sent(nonce, offer, adds, removals)
        subscription.answered = True
        return response


class Ads:
    """Serves the offers to every Envoy that connects to a Unix socket, and waits for their acknowledgements."""

    def __init__(self, socket: str, clock: Clock, observer: Observer | None = None) -> None:
        self._socket = socket
        self._clock = clock
        self._observer = observer or Silent()
        self._offers: dict[Kind, Offer] = {}
        self._streams: dict[Conversation, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._server: Any = None

    async def start(self) -> None:
        """Listen. Until the first offer nothing is said, so an Envoy that runs keeps what it has."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.so_reuseport", 0),
            ]
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._converse,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=DeltaDiscoveryResponse.SerializeToString,
        )
        ads = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._server.add_generic_rpc_handlers((ads, *reflection.handlers()))
        self._server.add_insecure_port(f"unix:{self._socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Hang up on every Envoy. They keep routing by what they have."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    @property
    def nodes(self) -> int:
        """How many Envoys are connected and have asked for something."""
        return len(self._talking())

    def known(self, kind: Kind) -> Mapping[str, str]:
        """Name → version of what every connected Envoy has acknowledged."""
        held = [s.subscriptions[kind].acked if kind in s.subscriptions else {} for s in self._talking()]
        if len(held) < 2:
            return dict(held[0]) if held else {}
        return dict(set(held[0].items()).intersection(*(h.items() for h in held[1:])))

    def offer(self, kind: Kind, resources: Mapping[str, Resource], *, prune: bool) -> None:
        """Say what every Envoy should have of one kind, now and when it connects later. Does not wait."""
        self._offers[kind] = Offer(resources, prune)
        for due in self._streams.values():
            due.set()
        self._note_change()

    def withdraw(self) -> None:
        """Offer nothing any more: Envoys keep what they have."""
        self._offers.clear()

    async def send(self, kind: Kind, resources: Mapping[str, Resource], *, prune: bool, seconds: float) -> None:
        """Offer, and return once every connected Envoy has acknowledged; with none connected, wait for one.
        Raises PublishRefused with Envoy's words, PublishTimedOut after `seconds`."""
        started = self._clock.monotonic()
        self.offer(kind, resources, prune=prune)
        try:
            async with asyncio.timeout(seconds):
                while not self._everyone_has(kind):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PublishTimedOut(self._who_is_missing(kind, seconds)) from None
        self._observer.acknowledged(kind.value, self._clock.monotonic() - started)

    def _everyone_has(self, kind: Kind) -> bool:
        offer, talking = self._offers[kind], self._talking()
        for stream in talking:
            subscription = stream.subscriptions.get(kind)
            words = subscription.refusal(offer) if subscription else None
            if words is not None:
                raise PublishRefused(f"Envoy refused {kind.value}: {words}")
        return bool(talking) and all(
            s.subscriptions[kind].has(offer) if kind in s.subscriptions else not offer.resources for s in talking
        )

    def _who_is_missing(self, kind: Kind, seconds: float) -> str:
        if not self.nodes:
            return f"no Envoy connected within {seconds:g} s; see its log, and whether its process runs"
        return f"Envoy did not acknowledge {kind.value} within {seconds:g} s; see its log"

    def _talking(self) -> list[Conversation]:
        return [stream for stream in self._streams if stream.subscriptions]

    def _note_change(self) -> None:
        self._changed.set()

    async def _converse(self, requests: AsyncIterator[Any], context: Any) -> None:
        """One stream, from connect to hang-up. gRPC cancels this when Envoy is gone."""
        stream, due = Conversation(), asyncio.Event()
        self._streams[stream] = due
        listening = asyncio.create_task(self._listen(stream, due, requests))
        try:
            while not listening.done():
                for response in list(stream.say(self._offers)):
                    await context.write(response)
                await due.wait()
                due.clear()
            await listening
        finally:
            listening.cancel()
            del self._streams[stream]
            self._observer.connected(self.nodes)
            self._note_change()

    async def _listen(self, stream: Conversation, due: asyncio.Event, requests: AsyncIterator[Any]) -> None:
        try:
            async for request in requests:
                asked_before = bool(stream.subscriptions)
                refusal = stream.hear(request)
                if refusal is not None:
                    self._observer.refused(refusal[0].value, refusal[1])
                if not asked_before:
                    self._observer.connected(self.nodes)
                due.set()
                self._note_change()
        finally:
            due.set()  # wakes the stream, which then sees that nobody listens any more
