"""What goes back: status, body and the headers that are special to one answer."""

from typing import NamedTuple

from contracts.errors import TealError, Unavailable
from serving.codec.render import dump
from serving.http.errors import status_of

Header = tuple[bytes, bytes]

CLOSE: Header = (b"connection", b"close")
CHUNKED: Header = (b"transfer-encoding", b"chunked")
JSON = b"application/json"


class Answer(NamedTuple):
    """One HTTP answer without the headers that every answer has."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()
    trailers: tuple[Header, ...] = ()  # headers that come after the body


def error_answer(error: TealError) -> Answer:
    """The answer for an error of the tree, in the one form both protocols use.

    A body that is too large does not close the connection: the server reads on and drops what comes, until the sender
    has seen the answer. Hanging up on a sender who still writes costs him the answer, and Envoy would call it a death.
    """
    headers: tuple[Header, ...] = ()
    if isinstance(error, Unavailable):
        headers = ((b"retry-after", b"%d" % max(1, round(error.retry_after))),)
    return Answer(status_of(error), error_body(error.message), headers=headers)


def error_body(message: str) -> bytes:
    return b'{"error":' + dump(message) + b"}"
