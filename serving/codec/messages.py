"""The protocol buffers of the gRPC services and of TensorFlow's warm-up files, as Python classes, without TensorFlow.

They live in a pool of their own: contracts/protos.py says why. What their fields mean is the codecs' business.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from contracts.errors import InvalidInput
from contracts.protos import descriptor_set

_POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(descriptor_set()).file:
    _POOL.Add(_file)


def message_class(name: str) -> Any:
    """The class of the message with this full name."""
    return GetMessageClass(_POOL.FindMessageTypeByName(name))


def parse(kind: Any, data: bytes | memoryview) -> Any:
    """A message of class `kind`. Raises InvalidInput for bytes that are none, nested too deep or hold text that is not
    UTF-8."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(f"the message is no {kind.DESCRIPTOR.full_name}: its bytes do not parse as one") from None
