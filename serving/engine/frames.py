"""What goes over the socket between a process and its scratch process: a kind, a text and named arrays. No pickle.

Arrays travel as samples do, because a process that has just computed something deadly is nobody to unpickle from.
"""

import io
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from serving.engine.base import Array, Tensors
from serving.engine.samples import Samples, read_samples, write_samples

RUN = b"?"
OUTPUTS = b"="
RAISED = b"!"
READY = b"+"

_HEAD = struct.Struct("<cIQ")  # kind, bytes of text, bytes of arrays
_ARRAYS = "a"  # the signature's place in the samples' names; the real name travels as text


class Frame(NamedTuple):
    kind: bytes
    text: str
    arrays: Mapping[str, Array]


def send(line: socket.socket, kind: bytes, text: str = "", arrays: Tensors | None = None) -> None:
    """Write one frame. Raises ValueError, and writes nothing, for a dtype that samples cannot hold."""
    packed = b""
    if arrays:
        stream = io.BytesIO()
        write_samples(stream, {_ARRAYS: Samples(arrays, {})})
        packed = stream.getvalue()
    words = text.encode()
    line.sendall(_HEAD.pack(kind, len(words), len(packed)) + words)
    line.sendall(packed)


def receive(line: socket.socket) -> Frame | None:
    """The next frame, or None when the other side is gone. Raises TimeoutError after the socket's own time-out."""
    head = _exactly(line, _HEAD.size)
    if head is None:
        return None
    kind, words, size = _HEAD.unpack(head)
    text, packed = _exactly(line, words), _exactly(line, size)
    if text is None or packed is None:
        return None
    arrays = read_samples(io.BytesIO(packed))[_ARRAYS].inputs if packed else {}
    return Frame(kind, text.decode(errors="replace"), arrays)


def _exactly(line: socket.socket, size: int) -> bytes | None:
    whole = bytearray(size)
    left = memoryview(whole)
    while left:
        got = line.recv_into(left)
        if got == 0:
            return None
        left = left[got:]
    return bytes(whole)
