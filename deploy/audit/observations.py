"""What an automatic decision was made from, in a form that is kept: one observation after the other, and their digest.

An observation becomes compact JSON, deflated; all of a stretch between two events of a model are one digest, which the
event at its end keeps even when the observations themselves are gone. Pure.
"""

import hashlib
import json
import platform
import zlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pydantic import ConfigDict, TypeAdapter

from deploy.audit.chain import GENESIS
from deploy.rollout.events import Observation
from deploy.rollout.plan import Plan

_FAST = 1  # of zlib's levels: the next ones take longer and save little on a kilobyte of counts


class Seen(NamedTuple):
    """What `decide` was given beside the deployment: what was observed, and wall seconds."""

    now: float
    observation: Observation


_SEEN: TypeAdapter[Seen] = TypeAdapter(Seen, config=ConfigDict(ser_json_inf_nan="constants"))
_PLAN: TypeAdapter[Plan | None] = TypeAdapter(Plan | None, config=ConfigDict(ser_json_inf_nan="constants"))


def packed(seen: Seen) -> bytes:
    """What is at its default is left out."""
    return zlib.compress(_SEEN.dump_json(seen, exclude_defaults=True), _FAST)


def unpacked(body: bytes) -> Seen:
    """What `packed` made. Raises ValueError for anything else."""
    try:
        return _SEEN.validate_json(zlib.decompress(body))
    except zlib.error as error:
        raise ValueError(f"not a deflated observation: {error}") from error


@dataclass(frozen=True)
class Stretch:
    """What was observed of one model since its latest event.

    since         seq of that event; 0 before there was one
    rollout       seq of the event that began the rollout by evidence under way; None when none is
    observations  how many there were
    digest        of that event's hash and every observation: d = sha256(d before || observation), in hex
    rules         by which rules (rules_digest) all of them were decided; "" while there are none
    """

    since: int = 0
    rollout: int | None = None
    observations: int = 0
    digest: str = GENESIS
    rules: str = ""

    def seeing(self, body: bytes) -> "Stretch":
        """With one more observation."""
        digest = extended(self.digest, body)
        return replace(self, observations=self.observations + 1, digest=digest, rules=rules_digest())

    def to_text(self) -> str:
        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> "Stretch":
        return cls() if text is None else cls(**json.loads(text))


def extended(digest: str, body: bytes) -> str:
    """The digest with one more observation."""
    return hashlib.sha256(bytes.fromhex(digest) + body).hexdigest()


def plan_digest(plan: Plan | None) -> str | None:
    """Which plan it was, whatever file it came from."""
    return None if plan is None else hashlib.sha256(_PLAN.dump_json(plan)).hexdigest()


@cache
def rules_digest() -> str:
    """Which rules decide here: the source of all that `decide` is made of, and the arithmetic it runs on. Others may
    decide otherwise from the same observations, in the last bit or altogether, and that is no forgery."""
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()} {platform.libc_ver()}".encode())
    for package in ("deploy.rollout", "deploy.evidence"):
        for source in sorted(files(package).iterdir(), key=lambda each: each.name):
            if source.name.endswith(".py"):
                digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
