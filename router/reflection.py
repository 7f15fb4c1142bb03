"""gRPC reflection: which services there are and what their messages look like, for people with a tool like grpcurl.

Served by the control plane on Envoy's own socket, because it is a conversation and Envoy holds none. Envoy lets
callers through to these two methods only (router/rpc.py).
"""

from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from contracts.protos import SERVICES
from router.messages import pool

# The messages of both are the same on the wire; newer tools ask for v1, older ones only know v1alpha.
NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD = "ServerReflectionInfo"
METHODS = tuple(f"/{name}/{METHOD}" for name in NAMES)


def handlers() -> tuple[Any, ...]:
    """Generic handlers for a grpc.aio server."""
    servicer = aio.ReflectionServicer(SERVICES, pool=pool())
    converse = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(grpc.method_handlers_generic_handler(name, {METHOD: converse}) for name in NAMES)
