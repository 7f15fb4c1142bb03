"""What a batch job is going to do, fixed before it does any of it: inputs cut into shards, and one digest over it all.

Pure. A job that is started again finds its plan and goes on only when it is the same: another model, another input,
another preprocessing or another format is another job, and the difference is named. How inputs are listed and read is
left to others, and so is everything that may change between two starts without changing a byte of the results.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contracts.errors import Conflict, InvalidInput
from serving.batch.commit import canonical

FORMAT = 1  # of plans and of what jobs write; another number is another job
SHARD_BYTES = 64 << 20
SHARD_ROWS = 50_000
MOST_SHARDS = 99_999  # five digits in the name of a part


@dataclass(frozen=True)
class Source:
    """One input. `tag` changes with its bytes: a bucket's etag, or size and time of a file."""

    uri: str
    size: int
    tag: str


@dataclass(frozen=True)
class Piece:
    """A stretch of one source, in the unit that its format is cut by: bytes of lines and records, row groups, or whole
    files. `rows` is 0 where nobody knows before reading."""

    source: int
    start: int
    stop: int
    bytes: int
    rows: int = 0


@dataclass(frozen=True)
class Spec:
    """What the results depend on, beside the inputs. `digest` is the package's, which names every byte of the model;
    `preprocessing` and `signature` are digests as well; `columns` are those that pass through, the key first."""

    model: str
    version: int
    digest: str
    signature: str
    preprocessing: str
    reads: str
    writes: str
    columns: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A whole job. `shards` have consecutive pieces of the sources in their order."""

    spec: Spec
    sources: tuple[Source, ...]
    shards: tuple[tuple[Piece, ...], ...]

    @property
    def id(self) -> str:
        """sha256 over all that the results depend on."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        return canonical({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, content: bytes) -> "Plan":
        """Raises Conflict for a plan that this release does not read."""
        try:
            value = json.loads(content)
            if value.pop("format") != FORMAT:
                raise Conflict("this output was begun by another release of Teal: finish it there, or choose another")
            spec = Spec(**{**value["spec"], "columns": tuple(value["spec"]["columns"])})
            return cls(
                spec,
                tuple(Source(**each) for each in value["sources"]),
                tuple(tuple(Piece(**piece) for piece in shard) for shard in value["shards"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Conflict(f"the plan of this output cannot be read ({error}): choose another output") from error


def cut(
    pieces: Iterable[Piece], most_bytes: int = SHARD_BYTES, most_rows: int = SHARD_ROWS
) -> tuple[tuple[Piece, ...], ...]:
    """Consecutive pieces as shards: each as many as fit, at least one. Raises InvalidInput for too many shards."""
    shards: list[tuple[Piece, ...]] = []
    here: list[Piece] = []
    size = rows = 0
    for piece in pieces:
        if here and (size + piece.bytes > most_bytes or rows + piece.rows > most_rows):
            shards.append(tuple(here))
            here, size, rows = [], 0, 0
        here.append(piece)
        size, rows = size + piece.bytes, rows + piece.rows
    if here:
        shards.append(tuple(here))
    if len(shards) > MOST_SHARDS:
        raise InvalidInput(f"{len(shards)} shards are more than the {MOST_SHARDS} a job may have: give it less input")
    return tuple(shards)


def stretches(size: int, begins: Callable[[int], int], target: int = SHARD_BYTES) -> tuple[tuple[int, int], ...]:
    """A file of `size` bytes cut near every `target`, where records begin. `begins` gives the first beginning of a
    record at or after a position, `size` when there is none."""
    if size == 0:
        return ()
    bounds = [0]
    while (bound := begins(min(bounds[-1] + target, size))) < size:
        bounds.append(bound)
    return tuple(zip(bounds, [*bounds[1:], size], strict=True))


def check_same(begun: Plan, now: Plan) -> None:
    """Raise Conflict naming the first difference between a job that was begun and the one asked for now."""
    if (difference := _difference(begun, now)) is not None:
        raise Conflict(
            f"this output belongs to another job: {difference}. Choose another output, or ask for what was asked for "
            "then"
        )


def _difference(begun: Plan, now: Plan) -> str | None:
    words = {
        "model": "the model's name",
        "digest": "the package",
        "version": "the version",
        "signature": "the signature",
        "preprocessing": "the preprocessing",
        "reads": "the format of the input",
        "writes": "the format of the output",
        "columns": "the columns that pass through",
        "options": "the options",
    }
    for name, word in words.items():
        then, today = getattr(begun.spec, name), getattr(now.spec, name)
        if then != today:
            return f"{word} was {_brief(then)}, now it is {_brief(today)}"
    return _other_source(begun.sources, now.sources) or (
        "the input is cut differently" if begun.shards != now.shards else None
    )


def _other_source(begun: Sequence[Source], now: Sequence[Source]) -> str | None:
    then, today = {s.uri: s for s in begun}, {s.uri: s for s in now}
    if gone := sorted(then.keys() - today.keys()):
        return f"the input {_brief(gone[0])} is missing now"
    if new := sorted(today.keys() - then.keys()):
        return f"the input {_brief(new[0])} is new"
    changed = next((uri for uri, source in then.items() if source != today[uri]), None)
    return None if changed is None else f"the input {_brief(changed)} has changed"


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
