"""The protobuf answers that need no worker, as bytes: what Envoy says to a gRPC call from the routing table alone.

Their REST twins are in router/answers.py. The messages come from a pool of our own (contracts/protos.py says why).
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from contracts.protos import descriptor_set
from router import answers
from router.table import Backend


class Deployed(NamedTuple):
    """One deployed version, as the repository index lists it."""

    model: str
    version: int
    ready: bool


@cache
def pool() -> Any:
    """Every message and service of contracts/protos."""
    made = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set()).file:
        made.Add(file)
    return made


def message(full_name: str, /, **fields: Any) -> Any:
    """A message by its full name."""
    return GetMessageClass(pool().FindMessageTypeByName(full_name))(**fields)


def server_live() -> bytes:
    return _bytes("inference.ServerLiveResponse", live=True)


def server_ready(*, everyone: bool) -> bytes:
    return _bytes("inference.ServerReadyResponse", ready=everyone)


def server_metadata() -> bytes:
    return _bytes("inference.ServerMetadataResponse", **answers.SERVER_FACTS)


def health() -> bytes:
    return _bytes("grpc.health.v1.HealthCheckResponse", status="SERVING")


def index(deployed: Iterable[Deployed]) -> bytes:
    models = [answers.index_entry(*each) for each in deployed]
    return _bytes("inference.RepositoryIndexResponse", models=models)


def status(backends: Iterable[Backend]) -> bytes:
    """tensorflow.serving.GetModelStatusResponse, in the order of answers.status."""
    made = message("tensorflow.serving.GetModelStatusResponse")
    for backend in answers.newest_first(backends):
        said = answers.version_status(backend)
        made.model_version_status.add(version=backend.version, state=said["state"], status=said["status"])
    return bytes(made.SerializeToString(deterministic=True))


def _bytes(full_name: str, /, **fields: Any) -> bytes:
    return bytes(message(full_name, **fields).SerializeToString(deterministic=True))
