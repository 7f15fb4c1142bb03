"""What a check of the record found, and its form as JSON. Values only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from deploy.audit.replay import Replayed
from deploy.rollout.shown import ShownGuardrail, shown


class Found(NamedTuple):
    """Something about one event. `seq` is None where no event is to blame, `model` empty where it is the chain."""

    seq: int | None
    model: str
    what: str


class Pruned(NamedTuple):
    """What led to event `seq` is no longer kept, as that or a later event says; its digest is still in the chain."""

    model: str
    rollout: int | None
    seq: int
    observations: int


@dataclass(frozen=True)
class Stood:
    """How a deployment stood."""

    revision: int
    state: str


@dataclass(frozen=True)
class Redecided:
    """One automatic decision that came out as it was recorded.

    epoch            of the lease under which it was made
    plan             digest of the plan; alpha, beta and margin are the plan's
    guardrails       counts and evidence of that moment, and thresholds; empty without a rollout by evidence
    """

    seq: int
    at: float
    model: str
    version: int | None
    action: str
    actor: str
    reason: str
    before: Stood
    after: Stood
    epoch: int | None
    observations: int
    plan: str | None
    alpha: float | None
    beta: float | None
    margin: float | None
    guardrails: tuple[ShownGuardrail, ...]


@dataclass
class Report:
    """`anchored` events are older than the chain, which vouches for them only from then on. `other_rules`: decided by
    another release or machine, and these rules decide otherwise; the chain vouches for what was recorded."""

    events: int = 0
    head: tuple[int, str] = (0, "")
    anchored: int = 0
    observations: int = 0
    decisions: list[Redecided] = field(default_factory=list)
    pruned: list[Pruned] = field(default_factory=list)
    other_rules: list[Found] = field(default_factory=list)
    wrong: list[Found] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.wrong,
            "events": self.events,
            "head": {"seq": self.head[0], "hash": self.head[1]},
            "anchored": self.anchored,
            "observations": self.observations,
            "decisions": [asdict(each) for each in self.decisions],
            "pruned": [each._asdict() for each in self.pruned],
            "other_rules": [each._asdict() for each in self.other_rules],
            "wrong": [each._asdict() for each in self.wrong],
        }


def redecided(row: Mapping[str, Any], evidence: Mapping[str, Any], made: Replayed) -> Redecided:
    """What is said of the event `row`, whose decision came out again."""
    before, after, trial = made.before, made.decision.deployment, made.before.trial
    plan = None if trial is None else trial.plan
    counted = made.seen.observation.counted
    if trial is not None and counted is not None:  # evidence as it was in the moment of the decision
        before = replace(before, trial=trial.saw(counted, in_force=made.seen.observation.in_force))
    seen = shown(before)
    return Redecided(
        row["seq"],
        row["at"],
        row["model"],
        row["version"],
        row["action"],
        row["actor"],
        row["reason"],
        Stood(made.before.revision, made.before.state.value),
        Stood(after.revision, after.state.value),
        evidence["epoch"],
        evidence["observations"],
        evidence["plan"],
        None if plan is None else plan.alpha,
        None if plan is None else plan.beta,
        None if plan is None else plan.margin,
        () if seen is None else seen.guardrails,
    )
