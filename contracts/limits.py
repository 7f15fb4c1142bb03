"""Every bound Teal puts on what strangers send and on how long things may take: name, unit, default, sentence.

One table, used by the worker, the router and the documentation alike.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds, counts in things. The defaults are the shipped values."""

    json_body: int = 16 * MIB  # a JSON body costs many times its size in objects, so it is smaller
    binary_body: int = 64 * MIB
    image_body: int = 16 * MIB
    image_pixels: int = 40_000_000  # of a picture as sent; known from its header, before anything is decoded
    json_depth: int = 32
    tensor_rank: int = 8
    headers: int = 100
    header_bytes: int = 32 * KIB
    header_seconds: float = 10.0
    idle_seconds: float = 60.0
    request_seconds: float = 30.0  # deadline when the caller names none, and the longest a caller may name
    queue_rows: int = 4096
    queue_bytes: int = 256 * MIB
    queue_seconds: float = 10.0
    quarantine_seconds: float = 3600.0  # how long an input is refused that ended the process which computed it alone
    trials: int = 256  # suspects that wait to be tried alone; more than any one run holds
    answers_kept: int = 16384  # answers that a worker remembers
    answer_bytes: int = 4 * KIB  # of outputs; an answer of more is remembered without them
    answers_bytes: int = 16 * MIB  # of outputs of all answers remembered, small ones left out
    connect_seconds: float = 0.25  # to a worker on the same machine


LIMITS = Limits()
