"""Names for inputs: a mark costs about a microsecond and tells requests apart, a fingerprint is exact and costs a hash.

A mark stands in the crash journal of every run; a fingerprint is made only of inputs that are already under suspicion.
Two requests with one mark are confused at no greater price than a run apart.
"""

import hashlib
from functools import lru_cache
from zlib import crc32

import numpy as np

from serving.engine.base import Array, Tensors

_WHOLE_BYTES = 2048  # up to here all bytes of an array count for its mark, beyond it this many spread over the array


def mark(signature: str, inputs: Tensors) -> int:
    """A name of at most 64 bits for these inputs of this signature."""
    sum_, size = _crc_of(signature), 0
    for array in inputs.values():
        length = array.nbytes
        size += length
        if length > _WHOLE_BYTES or array.dtype.hasobject or not array.flags.c_contiguous:
            sum_ = crc32(_sample(array), sum_)
        else:
            sum_ = crc32(array.data, sum_)
    return (size & 0xFFFFFFFF) << 32 | sum_


@lru_cache(maxsize=64)
def _crc_of(signature: str) -> int:
    return crc32(signature.encode())


def fingerprint(signature: str, inputs: Tensors) -> str:
    """sha256 (hex) over the signature and each input's name, dtype, shape and bytes."""
    digest = hashlib.sha256(signature.encode())
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        if array.dtype.hasobject:
            for item in array.ravel().tolist():
                digest.update(len(item).to_bytes(8, "little"))
                digest.update(item)
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _sample(array: Array) -> bytes:
    """Bytes from all over a big or unusual array: at most about _WHOLE_BYTES of numbers, both ends of some texts."""
    flat = array.reshape(-1)
    if array.dtype.hasobject:
        texts = flat[:: -(-len(flat) // 64) or 1].tolist()
        return b"\0".join([b"%d" % len(text) + text[:64] + text[-64:] for text in texts])
    # Every n-th element, not byte: a stride over bytes could meet the same byte of every number.
    return np.ascontiguousarray(flat[:: -(-array.nbytes // _WHOLE_BYTES) or 1]).tobytes()
