"""What one worker answered lately, so that a label, an operator or a comparison can come back to a request by its id.

A request pays for one tuple and one append; what an answer says is read from its outputs only when somebody asks.
Two rings, one for small outputs and one for bigger ones, so that counts bound bytes and nothing is added up per
request. Everything runs on one event loop.
"""

import math
import zlib
from collections import deque
from collections.abc import Collection, Iterable
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any

from contracts.clock import Clock
from contracts.limits import Limits
from contracts.signature import Signature, TensorSpec
from contracts.worker import ANSWERS_TOLD
from serving.batching.tickets import Outputs
from serving.engine.base import NUMPY_DTYPES, Array
from serving.summary import predicted, telling, told

LONGEST_ID = 128  # bytes
_SMALL_BYTES = 256  # of outputs: about what the objects around them take anyway

_Entry = tuple[bytes, float, int, Signature, Outputs | None]
"""Request id, monotonic seconds when it was answered, rows, signature, outputs unless they were too big."""


class Memory:
    """Remembers the answers of one loaded model: the latest `answers_kept` with small outputs, and beside them as many
    with outputs of up to `answer_bytes` as fit into `answers_bytes`."""

    def __init__(self, signatures: Iterable[Signature], limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._longest = limits.answer_bytes
        self._small = deque[_Entry](maxlen=limits.answers_kept)
        self._big = deque[_Entry](maxlen=limits.answers_bytes // limits.answer_bytes)
        self._small_rows = {s.name: _small_rows(s) for s in signatures}
        self._index: dict[bytes, _Entry] = {}  # made when somebody asks; holds at most twice what the rings do
        self._indexed = -math.inf  # until when answers are in the index

    def keep(self, request_id: bytes | None, at: float, signature: Signature, rows: int, outputs: Outputs) -> None:
        """Remember an answer given at `at`, which never goes back from one call to the next. Small outputs are kept as
        they are. A request without an id, or with an unreasonable one, cannot be asked for."""
        if request_id is None or len(request_id) > LONGEST_ID:
            return
        if rows <= self._small_rows[signature.name]:
            self._small.append((request_id, at, rows, signature, outputs))
        else:
            self._keep_measured(request_id, at, signature, rows, outputs)

    def keep_cut(self, request_id: bytes | None, at: float, signature: Signature, rows: int, outputs: Outputs) -> None:
        """As `keep`, for outputs that may be views of a whole batch, which nobody must keep alive for one row."""
        if rows <= self._small_rows[signature.name]:
            outputs = {name: array.copy() for name, array in outputs.items()}
        self.keep(request_id, at, signature, rows, outputs)

    def answers_to(self, ids: Collection[str]) -> list[dict[str, Any]]:
        """What was answered to these ids, as far as it is remembered; of several answers to one id the latest."""
        if len(self._index) > len(self._small) + len(self._big):
            self._index, self._indexed = {}, -math.inf
        for entry in self._since(self._indexed):
            self._index[entry[0]] = entry
            self._indexed = entry[1]
        found = (self._index.get(each.encode("utf-8", "replace")) for each in ids)
        return [self._said(entry) for entry in found if entry is not None]

    def answers_since(self, after: float, share: int) -> tuple[float, list[dict[str, Any]]]:
        """The first answers after `after` whose id belongs to one share of `share`, and from where to ask on."""
        shared = (entry for entry in self._since(after) if zlib.crc32(entry[0]) % share == 0)
        answers = list(islice(shared, ANSWERS_TOLD))
        if len(answers) < ANSWERS_TOLD:
            latest = max((ring[-1][1] for ring in (self._small, self._big) if ring), default=0.0)
        else:
            latest = answers[-1][1]
        return latest, [self._said(entry) for entry in answers]

    def _keep_measured(self, request_id: bytes, at: float, signature: Signature, rows: int, outputs: Outputs) -> None:
        """Copies of what tells the prediction, or none of it where that is too much."""
        told_by = telling(signature)
        size = sum(_bytes_of(outputs[name]) for name in told_by)
        kept = {name: outputs[name].copy() for name in told_by} if size <= self._longest else None
        ring = self._small if kept is None or size <= _SMALL_BYTES else self._big
        ring.append((request_id, at, rows, signature, kept))

    def _since(self, after: float) -> Iterable[_Entry]:
        """Answers after `after`, the oldest first."""
        fresh = (list(takewhile(lambda e: e[1] > after, reversed(ring)))[::-1] for ring in (self._small, self._big))
        return merge(*fresh, key=itemgetter(1))

    def _said(self, entry: _Entry) -> dict[str, Any]:
        """Answered, as contracts.worker has it."""
        request_id, at, rows, signature, outputs = entry
        seen = None if outputs is None else predicted(signature, outputs)
        return {
            "id": request_id.decode("utf-8", "backslashreplace"),
            "at": self._clock.wall() - (self._clock.monotonic() - at),
            "rows": rows,
            "kind": None if seen is None else seen.kind,
            "predicted": [] if seen is None else told(seen),
        }


def _small_rows(signature: Signature) -> int:
    """How many rows at most have small outputs for sure."""
    sizes = [_row_bytes(spec, signature.batched) for spec in signature.outputs]
    return int(_SMALL_BYTES // max(1.0, sum(sizes)))


def _row_bytes(spec: TensorSpec, batched: bool) -> float:
    """Infinite where nobody can say beforehand."""
    shape = None if spec.shape is None else spec.shape[batched:]
    if shape is None or None in shape or spec.dtype == "string" or spec.dtype not in NUMPY_DTYPES:
        return math.inf
    return math.prod(d for d in shape if d is not None) * NUMPY_DTYPES[spec.dtype].itemsize


def _bytes_of(array: Array) -> int:
    if array.dtype.kind != "O":
        return array.nbytes
    return array.nbytes + sum(map(len, array.reshape(-1)))
