"""Writes what the Open Inference Protocol answers: infer answers, with or without binary tensors, and metadata.

An output that holds NaN or infinity is refused with 400 naming the output, unless it is answered as binary data: JSON
has no such numbers, and a `null` would be a silent lie. The /v1 route has tokens instead.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from contracts.errors import InvalidInput
from contracts.signature import Signature, TensorSpec
from serving.codec.columns import quoted
from serving.codec.raw import Piece, encode
from serving.codec.render import dump, dump_numbers, texts
from serving.codec.v2_words import DATATYPES, Infer
from serving.engine.base import Array

_WORDS = frozenset(DATATYPES.values())
_ASK_BINARY = 'ask for it as binary data (parameter "binary_data": true)'


def write(model: str, version: str, infer: Infer, outputs: Mapping[str, Array]) -> bytes:
    """The answer when no output is wanted as binary data. Raises InvalidInput for outputs JSON cannot carry."""
    names = infer.wanted if infer.wanted is not None else tuple(outputs)
    tensors = b",".join([_tensor(name, outputs[name]) for name in names])
    head = _head(model, version)
    if infer.id is not None:
        head += b',"id":' + dump(infer.id)
    return head + b',"outputs":[' + tensors + b"]}"


def write_binary(model: str, version: str, infer: Infer, outputs: Mapping[str, Array]) -> tuple[bytes, int]:
    """The answer with binary data after the JSON, and the length of the JSON. Raises InvalidInput for outputs that
    what was asked for cannot carry."""
    tensors, blobs = [], list[Piece]()
    for name in infer.wanted if infer.wanted is not None else tuple(outputs):
        if name not in infer.binary:
            tensors.append(_tensor(name, outputs[name]))
            continue
        array = outputs[name]
        pieces, size = encode(array)
        blobs += pieces
        tensors.append(_tensor_start(name, array) + b',"parameters":{"binary_data_size":%d}}' % size)
    head = _head(model, version)
    if infer.id is not None:
        head += b',"id":' + dump(infer.id)
    text = head + b',"outputs":[' + b",".join(tensors) + b"]}"
    return b"".join([text, *blobs]), len(text)


@lru_cache(maxsize=16)
def _head(model: str, version: str) -> bytes:
    return b'{"model_name":' + dump(model) + b',"model_version":"' + version.encode() + b'"'


def _tensor(name: str, array: Array) -> bytes:
    if array.dtype.kind == "O":
        datatype, data = "BYTES", dump(texts(name, array.reshape(-1), way_out=_ASK_BINARY))
    else:
        datatype = _datatype(array.dtype)
        # One row is flat but for its outer brackets, and a view costs more than cutting them off.
        one_row = array.ndim == 2 and array.shape[0] == 1
        data, holds_null = dump_numbers(name, array if one_row else array.reshape(-1), way_out=_ASK_BINARY)
        if one_row:
            data = data[1:-1]
        if holds_null:
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise InvalidInput(
                f"output {quoted(name)} holds {bad} values that are not finite (NaN or infinite), which JSON cannot "
                f"carry: {_ASK_BINARY}; the /v1 route answers them as NaN and Infinity tokens"
            )
    return _tensor_head(name, datatype) + b",".join([b"%d" % n for n in array.shape]) + b'],"data":' + data + b"}"


def _tensor_start(name: str, array: Array) -> bytes:
    """A tensor's JSON up to what says where its data is."""
    datatype = datatype_of(name, array)
    return _tensor_head(name, datatype) + b",".join([b"%d" % n for n in array.shape]) + b"]"


def datatype_of(name: str, array: Array) -> str:
    """The protocol's word for an output's dtype. Raises InvalidInput when it has none."""
    datatype = "BYTES" if array.dtype.kind == "O" else _datatype(array.dtype)
    if datatype not in _WORDS:
        raise InvalidInput(f"output {quoted(name)} has dtype {array.dtype}, which this protocol has no datatype for")
    return datatype


@lru_cache(maxsize=1024)
def _tensor_head(name: str, datatype: str) -> bytes:
    """What is the same in every answer with this output."""
    return b'{"name":' + dump(name) + b',"datatype":"' + datatype.encode() + b'","shape":['


@lru_cache(maxsize=64)
def _datatype(dtype: np.dtype[Any]) -> str:
    return DATATYPES.get(dtype.name, "none")  # numpy makes this name up anew each time


def metadata(model: str, version: int, signature: Signature) -> dict[str, Any]:
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "tensorflow_savedmodel",
        "inputs": [_spec(spec) for spec in signature.inputs],
        "outputs": [_spec(spec) for spec in signature.outputs],
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": DATATYPES.get(spec.dtype, spec.dtype),
        "shape": [-1 if d is None else d for d in spec.shape or ()],
    }
