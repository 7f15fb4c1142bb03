"""Makes MLflow importable where another wheel's `opentelemetry/proto` stands in place of OpenTelemetry's own.

The wheels of Envoy's protocol and of OpenTelemetry both own those files, and which of the two is there depends on the
order of installation. MLflow imports a message that only one of them has, to write traces: nothing that is done here.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.trace.v1 import trace_pb2

_FILE = "teal/traces.proto"


def mend() -> None:
    """Call before MLflow is imported. Adds what is missing to the module of the other wheel, in this process only."""
    if hasattr(trace_pb2, "TracesData"):
        return
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package="teal", syntax="proto3")
    file.dependency.append(trace_pb2.DESCRIPTOR.name)
    spans = file.message_type.add(name="TracesData").field.add(name="resource_spans", number=1)
    spans.label, spans.type = spans.LABEL_REPEATED, spans.TYPE_MESSAGE
    spans.type_name = f".{trace_pb2.ResourceSpans.DESCRIPTOR.full_name}"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    data = message_factory.GetMessageClass(pool.FindMessageTypeByName("teal.TracesData"))
    vars(trace_pb2)["TracesData"] = data
