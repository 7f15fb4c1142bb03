"""Makes gRPC messages as clients do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.codec import tensorproto
from serving.codec.messages import message_class
from serving.codec.v2_words import DATATYPES

EXAMPLE = message_class("tensorflow.Example")


def tfs(name: str) -> Any:
    return message_class(f"tensorflow.serving.{name}")


def oip(name: str) -> Any:
    return message_class(f"inference.{name}")


def predict(inputs: Mapping[str, Any], signature: str = "", wanted: Sequence[str] = (), model: str = "m") -> bytes:
    request = tfs("PredictRequest")(output_filter=wanted)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensor(name, array))
    return bytes(request.SerializeToString())


def tensor(name: str, array: Any) -> Any:
    """The TensorProto of an array."""
    head, elements = tensorproto.entry(name, array)
    return tfs("PredictResponse").FromString(b"".join([head, *elements])).outputs[name]


def example(**features: Any) -> Any:
    made = EXAMPLE()
    for name, values in features.items():
        feature = made.features.feature[name]
        kinds = {float: feature.float_list, int: feature.int64_list, bytes: feature.bytes_list}
        kinds[type(values[0])].value.extend(values)
    return made


def examples(kind: str, given: Sequence[Any], context: Any = None, signature: str = "") -> bytes:
    """A ClassificationRequest or RegressionRequest."""
    request = tfs(kind)()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    if context is None:
        request.input.example_list.examples.extend(given)
    else:
        request.input.example_list_with_context.examples.extend(given)
        request.input.example_list_with_context.context.CopyFrom(context)
    return bytes(request.SerializeToString())


def infer(inputs: Mapping[str, Any], *, raw: bool, **fields: Any) -> Any:
    """A ModelInferRequest message, to be changed before it is sent; arrays of any dtype but text."""
    request = oip("ModelInferRequest")(model_name="m", **fields)
    for name, array in inputs.items():
        datatype = DATATYPES[array.dtype.name]
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(array.tobytes())
        else:
            slot = {"f": "fp32_contents", "i": "int64_contents", "b": "bool_contents"}[array.dtype.kind]
            getattr(tensor.contents, slot).extend(array.reshape(-1).tolist())
    return request


def floats(*values: float) -> Any:
    return np.array(values, np.float32)
