"""The delta protocol as a conversation of values: what is said to which request."""

from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from router.ads import Conversation, Kind, Offer
from router.snapshot import Resource


def resources(**bodies: str) -> dict[str, Resource]:
    return {name: Resource(version=body, body=body.encode()) for name, body in bodies.items()}


def offers(
    clusters: dict[str, Resource], routes: dict[str, Resource] | None = None, *, prune: bool = True
) -> dict[Kind, Offer]:
    given = {Kind.CLUSTERS: Offer(clusters, prune), Kind.ENDPOINTS: Offer(clusters, prune)}
    return given if routes is None else {**given, Kind.ROUTES: Offer(routes, prune)}


def ask(kind: Kind, *names: str, **more: Any) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(type_url=kind.type_url, resource_names_subscribe=names, **more)


def ack(response: Any) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)


def nack(response: Any, words: str) -> DeltaDiscoveryRequest:
    made = ack(response)
    made.error_detail.message = words
    return made


def said(responses: Any) -> list[tuple[str, list[str], list[str]]]:
    return [(r.type_url.rsplit(".", 1)[1], [x.name for x in r.resources], list(r.removed_resources)) for r in responses]


def settle(stream: Conversation, given: dict[Kind, Offer]) -> list[Any]:
    """Let Envoy accept everything, until nothing more is said."""
    heard = []
    while responses := list(stream.say(given)):
        heard += responses
        for response in responses:
            stream.hear(ack(response))
    return heard


def test_nothing_is_said_before_anything_is_offered() -> None:
    stream = Conversation()
    stream.hear(ask(Kind.CLUSTERS, initial_resource_versions={"a": "1"}))
    assert list(stream.say({})) == []


def test_an_envoy_with_nothing_is_told_once_that_there_is_nothing() -> None:
    stream = Conversation()
    stream.hear(ask(Kind.CLUSTERS))
    (response,) = stream.say(offers({}))
    assert said([response]) == [("Cluster", [], [])]
    stream.hear(ack(response))
    assert list(stream.say(offers({}))) == []


def test_routes_wait_until_clusters_and_endpoints_are_acknowledged() -> None:
    stream, given = Conversation(), offers(resources(a="1"), resources(teal="r"))
    stream.hear(ask(Kind.CLUSTERS))
    stream.hear(ask(Kind.ROUTES, "teal"))
    (first,) = stream.say(given)
    assert said([first]) == [("Cluster", ["a"], [])]
    assert list(stream.say(given)) == []
    stream.hear(ask(Kind.ENDPOINTS, "a"))
    stream.hear(ack(first))
    (second,) = stream.say(given)
    assert said([second]) == [("ClusterLoadAssignment", ["a"], [])]
    stream.hear(ack(second))
    assert said(stream.say(given)) == [("RouteConfiguration", ["teal"], [])]


def test_a_cluster_is_removed_only_after_the_routes_have_left_it() -> None:
    stream = Conversation()
    for kind, held in ((Kind.CLUSTERS, {"a": "1"}), (Kind.ENDPOINTS, {"a": "1"}), (Kind.ROUTES, {"teal": "r"})):
        stream.hear(ask(kind, *([] if kind is Kind.CLUSTERS else held), initial_resource_versions=held))
    responses = settle(stream, offers({}, resources(teal="s")))
    assert said(responses)[0] == ("RouteConfiguration", ["teal"], [])
    assert ("Cluster", [], ["a"]) in said(responses)[1:]


def test_after_a_reconnect_only_differences_are_said() -> None:
    stream, given = Conversation(), offers(resources(a="1", b="2"), resources(teal="r"))
    stream.hear(ask(Kind.CLUSTERS, initial_resource_versions={"a": "1", "b": "1", "c": "1"}))
    stream.hear(ask(Kind.ENDPOINTS, "a", "b", initial_resource_versions={"a": "1", "b": "2"}))
    stream.hear(ask(Kind.ROUTES, "teal", initial_resource_versions={"teal": "r"}))
    assert said(settle(stream, given)) == [("Cluster", ["b"], ["c"])]


def test_after_a_reconnect_nothing_is_said_when_nothing_differs() -> None:
    stream, given = Conversation(), offers(resources(a="1"), resources(teal="r"))
    stream.hear(ask(Kind.CLUSTERS, initial_resource_versions={"a": "1"}))
    stream.hear(ask(Kind.ENDPOINTS, "a", initial_resource_versions={"a": "1"}))
    stream.hear(ask(Kind.ROUTES, "teal", initial_resource_versions={"teal": "r"}))
    assert list(stream.say(given)) == []
    assert all(stream.subscriptions[kind].has(given[kind]) for kind in given)


def test_without_prune_an_envoy_may_keep_what_is_not_offered() -> None:
    stream, given = Conversation(), offers(resources(a="1"), {}, prune=False)
    stream.hear(ask(Kind.CLUSTERS, initial_resource_versions={"a": "1", "b": "1"}))
    assert list(stream.say(given)) == []
    assert stream.subscriptions[Kind.CLUSTERS].has(given[Kind.CLUSTERS])


def test_a_refusal_carries_envoys_words_and_is_not_repeated() -> None:
    stream, given = Conversation(), offers(resources(a="1"))
    stream.hear(ask(Kind.CLUSTERS))
    (response,) = stream.say(given)
    assert stream.hear(nack(response, "no such thing")) == (Kind.CLUSTERS, "no such thing")
    assert stream.subscriptions[Kind.CLUSTERS].refusal(given[Kind.CLUSTERS]) == "no such thing"
    assert list(stream.say(given)) == []


def test_after_a_refusal_another_version_is_sent_and_clears_it() -> None:
    stream = Conversation()
    stream.hear(ask(Kind.CLUSTERS))
    (bad,) = stream.say(offers(resources(a="bad", b="1")))
    stream.hear(nack(bad, "no"))
    good = offers(resources(a="good"))
    assert said(settle(stream, good))[0] == ("Cluster", ["a"], [])
    assert stream.subscriptions[Kind.CLUSTERS].refusal(good[Kind.CLUSTERS]) is None


def test_what_was_added_with_a_refusal_is_removed_when_it_is_taken_back() -> None:
    stream = Conversation()
    stream.hear(ask(Kind.CLUSTERS))
    stream.hear(ask(Kind.ROUTES, "teal", initial_resource_versions={"teal": "r"}))
    (bad,) = stream.say(offers(resources(a="bad"), resources(teal="r")))
    stream.hear(nack(bad, "no"))
    assert said(stream.say(offers({}, resources(teal="r")))) == [("Cluster", [], ["a"])]


def test_a_stale_acknowledgement_confirms_its_own_response_only() -> None:
    stream, old, new = Conversation(), offers(resources(a="1")), offers(resources(a="2"))
    stream.hear(ask(Kind.CLUSTERS))
    (first,) = stream.say(old)
    (second,) = stream.say(new)
    stream.hear(ack(first))
    assert not stream.subscriptions[Kind.CLUSTERS].has(new[Kind.CLUSTERS])
    stream.hear(ack(second))
    assert stream.subscriptions[Kind.CLUSTERS].has(new[Kind.CLUSTERS])


def test_an_acknowledgement_of_an_unknown_nonce_changes_nothing() -> None:
    stream, given = Conversation(), offers(resources(a="1"))
    stream.hear(ask(Kind.CLUSTERS))
    stream.hear(DeltaDiscoveryRequest(type_url=Kind.CLUSTERS.type_url, response_nonce="other"))
    assert said(stream.say(given)) == [("Cluster", ["a"], [])]


def test_endpoints_are_sent_when_asked_for_and_forgotten_when_let_go() -> None:
    stream, given = Conversation(), offers(resources(a="1", b="1"), {})
    stream.hear(ask(Kind.ENDPOINTS, "a"))
    assert said(settle(stream, given)) == [("ClusterLoadAssignment", ["a"], [])]
    stream.hear(ask(Kind.ENDPOINTS, "b"))
    assert said(settle(stream, given)) == [("ClusterLoadAssignment", ["b"], [])]
    stream.hear(ask(Kind.ENDPOINTS, resource_names_unsubscribe=["a"]))
    assert stream.subscriptions[Kind.ENDPOINTS].acked == {"b": "1"}
    assert list(stream.say(given)) == []


def test_what_is_asked_for_again_is_sent_again() -> None:
    stream, given = Conversation(), offers(resources(a="1"), {})
    stream.hear(ask(Kind.ENDPOINTS, "a"))
    settle(stream, given)
    stream.hear(ask(Kind.ENDPOINTS, "a"))
    assert said(stream.say(given)) == [("ClusterLoadAssignment", ["a"], [])]


def test_a_type_nobody_serves_is_not_answered() -> None:
    stream = Conversation()
    stream.hear(DeltaDiscoveryRequest(type_url="type.googleapis.com/envoy.config.listener.v3.Listener"))
    assert stream.subscriptions == {}


def test_weights_wait_for_their_routes_unless_an_envoy_has_none_and_waits_for_them() -> None:
    given = {**offers(resources(a="1"), resources(teal="r")), Kind.WEIGHTS: Offer(resources(weights="w"), prune=False)}
    begins, runs = Conversation(), Conversation()
    begins.hear(ask(Kind.WEIGHTS, "weights"))
    assert said(begins.say(given)) == [("Runtime", ["weights"], [])]
    runs.hear(ask(Kind.CLUSTERS, initial_resource_versions={"a": "1"}))
    runs.hear(ask(Kind.ENDPOINTS, "a", initial_resource_versions={"a": "1"}))
    runs.hear(ask(Kind.ROUTES, "teal", initial_resource_versions={"teal": "older"}))
    runs.hear(ask(Kind.WEIGHTS, "weights", initial_resource_versions={"weights": "older"}))
    assert [name for name, _, _ in said(settle(runs, given))] == ["RouteConfiguration", "Runtime"]
