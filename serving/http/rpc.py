"""gRPC as it reaches a worker: one framed message over HTTP/1.1, answered with one and `grpc-status` in the trailers.

Envoy has taken HTTP/2 off and put the REST path on (docs/decisions/0009). What the messages say is the codecs' affair.
"""

import struct
from urllib.parse import quote

from contracts.errors import InvalidInput, TealError, TooLarge, Unsupported
from contracts.metrics import Outcome
from serving.http.answers import Answer, Header
from serving.http.errors import grpc_status_of, outcome_of, status_of
from serving.http.incoming import Head

GRPC = b"application/grpc"
OK: tuple[Header, ...] = ((b"grpc-status", b"0"),)
"""The trailers of every good answer."""

FRAME_BYTES = 5
_FRAME = struct.Struct(">BI")  # compressed or not, and the length of the message
_CODINGS: Header = (b"grpc-accept-encoding", b"identity")
# What grpc-message holds as it is, by gRPC's HTTP/2 specification: %x20-24 and %x26-7E. The rest is percent-encoded.
_PLAIN = "".join(map(chr, (*range(0x20, 0x25), *range(0x26, 0x7F))))


def speaks_grpc(head: Head) -> bool:
    """Whether a request is a gRPC call, by its content type: application/grpc, with +proto or parameters after it.
    gRPC-Web (application/grpc-web) is another protocol."""
    kind = head.get(b"content-type", b"")
    return kind.startswith(GRPC) and kind[len(GRPC) : len(GRPC) + 1] in (b"", b"+", b";")


def unframed(body: bytes, most_bytes: int) -> memoryview:
    """The one message of a body, which stays its memory. Raises InvalidInput, TooLarge for a message that says it is
    over `most_bytes`, and Unsupported for a compressed one: nobody on its way could have read which model it is for."""
    if len(body) < FRAME_BYTES:
        raise InvalidInput(f"expected one gRPC message, which is at least {FRAME_BYTES} bytes, got {len(body)}")
    flag, length = _FRAME.unpack_from(body)
    if flag > 1:
        raise InvalidInput(f"a gRPC message begins with 0 or 1, got {flag}")
    if length > most_bytes:
        raise TooLarge(f"the message has {length} bytes, over the limit of {most_bytes}: send fewer rows at a time")
    if length != len(body) - FRAME_BYTES:
        raise InvalidInput(
            f"expected exactly one gRPC message: its length is {length} bytes, {len(body) - FRAME_BYTES} came"
        )
    if flag:
        raise Unsupported("compressed messages are not read here: send them with grpc-encoding identity")
    return memoryview(body)[FRAME_BYTES:]


def message_answer(message: bytes) -> Answer:
    """A good answer: the message in its frame."""
    return Answer(200, _FRAME.pack(0, len(message)) + message, GRPC, trailers=OK)


def refusal(error: TealError) -> Answer:
    """The answer for an error of the tree: headers alone. The HTTP status, which Envoy counts and then takes off, says
    whose fault it is as it does for REST."""
    status = status_of(error)
    headers: tuple[Header, ...] = (
        (b"grpc-status", b"%d" % grpc_status_of(error)),
        (b"grpc-message", quote(error.message, safe=_PLAIN).encode()),
    )
    if outcome_of(status) is Outcome.CLIENT_ERROR:  # 501 among them
        status = 400
    return Answer(status, b"", GRPC, headers=(*headers, _CODINGS) if isinstance(error, Unsupported) else headers)
