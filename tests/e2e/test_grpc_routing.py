"""What gRPC callers of the real gateway hear from the routing table alone, with the control plane there and gone."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from contracts.protos import HEALTH_SERVICE, INFERENCE_SERVICE, MODEL_SERVICE, SERVICES
from router.messages import message
from tests.e2e.gateway import Gateway, call, eventually

pytestmark = pytest.mark.e2e

REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
DIGITS = message("tensorflow.serving.GetModelStatusRequest", model_spec={"name": "digits"})


@pytest.fixture
def channel(serving: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{serving.port}") as made:
        yield made


def asked(channel: grpc.Channel, path: str, answer: str, request: Any = b"") -> Any:
    body = request if isinstance(request, bytes) else request.SerializeToString()
    return message(answer).FromString(channel.unary_unary(path)(body, timeout=20))


def facts(channel: grpc.Channel) -> tuple[Any, ...]:
    """Status, index and health, as this gateway says them over gRPC."""
    status = asked(channel, f"/{MODEL_SERVICE}/GetModelStatus", "tensorflow.serving.GetModelStatusResponse", DIGITS)
    index = asked(channel, f"/{INFERENCE_SERVICE}/RepositoryIndex", "inference.RepositoryIndexResponse")
    health = asked(channel, f"/{HEALTH_SERVICE}/Check", "grpc.health.v1.HealthCheckResponse")
    ready = asked(channel, f"/{INFERENCE_SERVICE}/ServerReady", "inference.ServerReadyResponse")
    versions = tuple((s.version, s.state) for s in status.model_version_status)
    return versions, tuple((m.name, m.version, m.state) for m in index.models), health.status, ready.ready


def services(channel: grpc.Channel) -> list[str] | None:
    """The names that reflection tells; None while nobody answers it."""
    ask = reflection_pb2.ServerReflectionRequest
    tell = reflection_pb2.ServerReflectionResponse.FromString
    conversation = channel.stream_stream(REFLECTION, ask.SerializeToString, tell)
    try:
        (answer,) = conversation(iter([ask(list_services="")]), timeout=20)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        return None
    return [each.name for each in answer.list_services_response.service]


def test_status_index_and_health_outlive_the_control_plane_and_reflection_comes_back_with_it(
    serving: Gateway, channel: grpc.Channel
) -> None:
    expected = (((1, 30),), (("digits", "1", "READY"),), 1, True)
    assert facts(channel) == expected
    rest = call(f"{serving.url}/v2/repository/index", b'{"ready": true}')
    assert rest.json == [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]
    assert services(channel) == sorted(SERVICES)
    serving.kill_control_plane()
    assert facts(channel) == expected
    assert services(channel) is None
    serving.start()
    eventually("reflection answers again", lambda: services(channel) == sorted(SERVICES), 10)
    assert facts(channel) == expected


def test_a_second_version_is_in_the_index_as_soon_as_it_is_deployed(serving: Gateway, channel: grpc.Channel) -> None:
    serving.order("deploy", version=2, strategy="manual")
    versions, index, _, _ = facts(channel)
    assert versions == ((2, 30), (1, 30))
    assert index == (("digits", "1", "READY"), ("digits", "2", "READY"))
