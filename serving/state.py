"""Where a worker is in its life, as health checks, answers and operators see it."""

from dataclasses import dataclass
from enum import StrEnum

from contracts.names import Color


@dataclass(frozen=True)
class Identity:
    """What a worker serves; on every answer and every metric."""

    model: str
    version: int
    color: Color
    digest: str


class Stage(StrEnum):
    STARTING = "starting"  # listens, loads, refuses predictions
    READY = "ready"  # every bucket is warm
    DRAINING = "draining"  # still answers, asks to be left alone
    BROKEN = "broken"  # cannot answer any more and is about to exit


class State:
    """The stage and the reason for it. Changed only by `serving.worker`."""

    def __init__(self) -> None:
        self.stage = Stage.STARTING
        self.reason = "loading the model"

    def move(self, stage: Stage, reason: str) -> None:
        self.stage, self.reason = stage, reason
