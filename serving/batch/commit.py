"""Publishes the results of one shard exactly once, and closes a job, with nothing but create-only writes.

The data part is the commit: it has one name per shard, and whoever creates it first has won. Everything beside it is a
copy of what the winner wrote before, so anybody who finds a part without its record can finish for the one who died.
Nothing published is ever overwritten or deleted, and who only globs `part-*` sees every row at most once, always.

Pure: a protocol here is a generator of steps. Whoever drives it does each one and sends its result back, which lets
failpoints stop it between any two of them and lets a test try every order of every step of several writers.
"""

import hashlib
import json
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from contracts.errors import Conflict, Internal

JOB = "_job"
PLAN = f"{JOB}/plan.json"
ATTEMPTS = f"{JOB}/attempts"
COMMITS = f"{JOB}/commits"
ERRORS = "errors"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class Create:
    """Write an object unless there is one of this name. Answered with True, or False when there was one."""

    key: str
    content: bytes


@dataclass(frozen=True)
class Read:
    """Answered with the object's bytes, or None when there is none."""

    key: str


@dataclass(frozen=True)
class Digest:
    """Answered with the sha256 (hex) of an object that may be too big to hold, or None when there is none."""

    key: str


@dataclass(frozen=True)
class List:
    """Answered with a sorted tuple of the keys that begin with `prefix`."""

    prefix: str


@dataclass(frozen=True)
class Delete:
    """Answered with None, also when there was nothing to delete."""

    key: str


Step = Create | Read | Digest | List | Delete
T = TypeVar("T")
Steps = Generator[Step, Any, T]
"""A protocol: yields steps, is sent their answers, returns what came of it."""


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a shard produced, as its record says. `sources` are inputs with the sha256 of the bytes that
    were read; `errors` is the sha256 of the error rows, None when every row has a prediction."""

    shard: int
    attempt: str
    part: str
    sha256: str
    rows: int
    failed: int
    errors: str | None
    sources: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]

    def to_json(self) -> bytes:
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> "Attempt":
        value = json.loads(content)
        sources = tuple((uri, digest) for uri, digest in value.pop("sources"))
        return cls(sources=sources, **value)


@dataclass(frozen=True)
class Result:
    """An attempt with what it wants to publish: the encoded part, and its error rows as JSON lines, or None."""

    record: Attempt
    part: bytes
    errors: bytes | None

    def __post_init__(self) -> None:
        record = self.record
        said = (record.sha256, record.errors)
        if said != (sha256(self.part), None if self.errors is None else sha256(self.errors)):
            raise Internal(f"shard {record.shard}: the record of attempt {record.attempt} is not about what it carries")


def commit(result: Result) -> Steps[Attempt]:
    """Publish a shard, or help the one who did. Returns the attempt that won, which is `result`'s own or not.

    Raises Conflict when a part of this name is there that no attempt of this job made."""
    own = result.record
    if result.errors is not None:
        yield Create(_errors_of(own.shard, own.attempt), result.errors)
    yield Create(_record_of(own.shard, own.attempt), own.to_json())
    created = yield Create(own.part, result.part)
    winner = own if created else (yield from _maker(own.shard, own.part))
    return (yield from _record(winner))


def resume(shard: int, part: str) -> Steps[Attempt | None]:
    """The attempt that published a shard before, with everything beside it in place; None when nobody has."""
    content = yield Read(_commit_of(shard))
    if content is not None:
        return (yield from _publish_errors(Attempt.from_json(content)))
    if (yield Digest(part)) is None:
        return None
    return (yield from _record((yield from _maker(shard, part))))


def finish(shards: int, about: Mapping[str, Any]) -> Steps[bytes]:
    """Close a job whose shards are all published: the manifest, the sign that it is whole, and no more attempts.

    Returns the manifest, whoever wrote it. `about` is what it says of the job. Raises Internal when a shard is
    missing."""
    records = []
    for shard in range(shards):
        content = yield Read(_commit_of(shard))
        if content is None:
            raise Internal(f"shard {shard} is not published, so the job is not finished")
        records.append(Attempt.from_json(content))
    total = {"rows": sum(r.rows for r in records), "failed": sum(r.failed for r in records)}
    root = merkle_root([sha256(r.to_json()) for r in records])
    manifest = canonical({**about, **total, "merkle_root": root, "parts": [asdict(r) for r in records]})
    if not (yield Create(MANIFEST, manifest)):
        manifest = yield Read(MANIFEST)
    yield Create(SUCCESS, b"")
    for key in (yield List(ATTEMPTS + "/")):
        yield Delete(key)
    return manifest


def part_name(shard: int, suffix: str) -> str:
    """`part-00012.parquet`: one name per shard, whoever makes it."""
    return f"part-{shard:05d}.{suffix}"


def canonical(value: Any) -> bytes:
    """JSON with one spelling for one value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def merkle_root(leaves: list[str]) -> str:
    """One digest over many, so that a single part can be proved to belong to the whole (RFC 6962's tree: leaves and
    inner nodes are hashed apart, and a tree splits at the largest power of two below its size)."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0" + bytes.fromhex(leaves[0]))
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = merkle_root(leaves[:split]), merkle_root(leaves[split:])
    return sha256(b"\1" + bytes.fromhex(left) + bytes.fromhex(right))


def _maker(shard: int, part: str) -> Steps[Attempt]:
    """The attempt whose part is there. Two attempts may have made the same bytes; any of them will do."""
    found = yield Digest(part)
    for key in (yield List(f"{ATTEMPTS}/{shard:05d}.")):
        content = None if key.endswith(".errors.jsonl") else (yield Read(key))
        if content is not None and (record := Attempt.from_json(content)).sha256 == found:
            return record
    content = yield Read(_commit_of(shard))  # attempts may have been tidied away by who finished the job meanwhile
    if content is not None:
        return Attempt.from_json(content)
    raise Conflict(
        f"{part} is there already and no attempt of this job made it: it is left untouched. Choose another output, or "
        "take that file away"
    )


def _record(winner: Attempt) -> Steps[Attempt]:
    """The winner's record, under the shard's own name. Where two attempts made the same part, the first to be named
    here is the winner, also for its error rows."""
    if not (yield Create(_commit_of(winner.shard), winner.to_json())):
        content = yield Read(_commit_of(winner.shard))
        winner = Attempt.from_json(content)
    return (yield from _publish_errors(winner))


def _publish_errors(winner: Attempt) -> Steps[Attempt]:
    if winner.errors is not None and (yield Digest(_published_errors(winner.shard))) is None:
        rows = yield Read(_errors_of(winner.shard, winner.attempt))
        if rows is not None:  # else the job was finished meanwhile, and they are published
            yield Create(_published_errors(winner.shard), rows)
    return winner


def _record_of(shard: int, attempt: str) -> str:
    return f"{ATTEMPTS}/{shard:05d}.{attempt}.json"


def _errors_of(shard: int, attempt: str) -> str:
    return f"{ATTEMPTS}/{shard:05d}.{attempt}.errors.jsonl"


def _commit_of(shard: int) -> str:
    return f"{COMMITS}/{shard:05d}.json"


def _published_errors(shard: int) -> str:
    return f"{ERRORS}/part-{shard:05d}.jsonl"
