"""A decoded prediction as a value, and what reads one: the seam between app.py and the dialects."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Union

from contracts.signature import Signature
from serving.batching.tickets import Outputs
from serving.engine.base import Array
from serving.http.answers import Answer
from serving.http.incoming import Head


class Reading(NamedTuple):
    """A decoded request, ready to compute. `answer` renders the outputs of its rows and may raise a TealError, or names
    what else has to be computed before there is an answer; `timeout` is the one the protocol's own field names, in
    seconds, None for none; `priority` is the Open Inference Protocol's, 0 for none."""

    signature: Signature
    inputs: dict[str, Array]
    rows: int
    answer: Callable[[Outputs], Union[Answer, "Reading"]]
    timeout: float | None = None
    priority: int = 0


class Dialect(Protocol):
    """`body_limit` is the longest decoded body in bytes."""

    body_limit: int

    def read(self, head: Head, body: bytes) -> Reading:
        """Raises InvalidInput, naming what was expected and what came, TooLarge, and Unsupported."""
