"""How many workers a version gets and how many threads each computes with, from the machine and from what preparing the
model measured. Pure: cores and measurements are handed in, a number and its reason come back.

Threads times replicas stay within the cores unless a person asks for more. A model that one thread serves fastest gets
no second one: waking it costs more than the work it takes over.
"""

from dataclasses import dataclass

MOST_REPLICAS = 4  # taken by itself; each is a process that loads the model. More only when somebody asks


@dataclass(frozen=True)
class Sizing:
    """A number of threads or replicas, and why, as a sentence for log, page and status."""

    count: int
    reason: str


def threads_for(*, asked: int, measured: int | None, cores: int, replicas: int) -> Sizing:
    """Threads inside one run of a worker that shares `cores` with all `replicas` of its version, itself included.
    `asked` 0 means that nobody asked; `measured` is contracts.package.PlanReport.threads."""
    if asked > 0:
        return Sizing(asked, f"{_threads(asked)}, as asked for")
    if measured is None:
        return Sizing(1, "1 thread: this plan was never timed with more")
    if measured == 1:
        return Sizing(1, "1 thread: more were no faster when the model was prepared")
    count = max(1, cores // max(1, replicas))
    workers = "1 worker" if replicas <= 1 else f"each of {replicas} workers"
    return Sizing(count, f"{_threads(count)}: {cores} cores for {workers} of this version")


def replicas_for(*, asked: int | None, measured: int | None, cores: int) -> Sizing:
    """Workers of a model that is deployed for the first time. A quarter of the cores each: the version, the one that
    will stand beside it during a rollout, Envoy with the control plane, and whatever else the machine is for."""
    if asked is not None:
        return Sizing(asked, f"{_workers(asked)}, as asked for")
    if measured != 1:
        return Sizing(1, "1 worker: a run of this model takes all cores by itself")
    count = max(1, min(MOST_REPLICAS, cores // 4))
    return Sizing(count, f"{_workers(count)}: this model computes with one thread, on {cores} cores")


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
