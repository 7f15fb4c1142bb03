"""TensorFlow Serving's GetModelMetadata and GetModelStatus as protocol buffers: v1_metadata.py in another encoding."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import ParseDict

from contracts.errors import InvalidInput
from contracts.signature import Signature
from serving.codec import v1_metadata
from serving.codec.columns import quoted
from serving.codec.messages import message_class, parse

_REQUEST = message_class("tensorflow.serving.GetModelMetadataRequest")
_RESPONSE = message_class("tensorflow.serving.GetModelMetadataResponse")
_MAP = message_class("tensorflow.serving.SignatureDefMap")
_STATUS = message_class("tensorflow.serving.GetModelStatusResponse")
_FIELD = "signature_def"  # the only one there is


def metadata(model: str, version: int, signatures: Sequence[Signature], message: bytes | memoryview) -> bytes:
    """The GetModelMetadataResponse. Raises InvalidInput for fields that do not exist, and for none at all."""
    asked = list(parse(_REQUEST, message).metadata_field)
    if not asked:
        raise InvalidInput(f"metadata_field is empty: ask for {quoted(_FIELD)}")
    if odd := [field for field in asked if field != _FIELD]:
        raise InvalidInput(f"metadata_field {quoted(odd[0])} does not exist: ask for {quoted(_FIELD)}")
    response = _RESPONSE()
    response.model_spec.name = model
    response.model_spec.version.value = version
    described: dict[str, Any] = v1_metadata.metadata(model, version, signatures)["metadata"][_FIELD]
    response.metadata[_FIELD].Pack(ParseDict(described, _MAP()))
    return bytes(response.SerializeToString())


def status(version: int, state: str) -> bytes:
    """The GetModelStatusResponse."""
    return bytes(ParseDict(v1_metadata.status(version, state), _STATUS()).SerializeToString())
