"""What is deployed now, read as values of metrics. Pure; telemetry.py hands them to Prometheus when it asks.

Read from the present state and never kept, so a reading cannot go stale or outlive its version.
"""

from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from contracts import metrics
from contracts.metrics import Metric
from contracts.names import Role
from contracts.traffic import TOTAL
from deploy.ports import WorkerState, WorkerStatus
from deploy.reconcile import AppliedModel
from deploy.rollout.deployment import ON_TRIAL, Deployment, State
from deploy.rollout.rules import WARMING_SECONDS
from deploy.rollout.shown import ShownGuardrail, shown


class Reading(NamedTuple):
    """One sample; `labels` are the values of `metric.labels`, in their order. `part` is what a histogram's series has
    behind its name: _bucket, with the upper bound as one more label, _sum or _count."""

    metric: Metric
    labels: tuple[str, ...]
    value: float
    part: str = ""


class Controller(NamedTuple):
    """A control plane among others that share its database.

    epoch    of the latest time that it led; 0 before
    fenced   its writes that were refused because another one decides since
    records  events in the history of all
    intact   the history is chained as it was recorded
    """

    leader: bool = True
    epoch: int = 0
    fenced: int = 0
    records: int = 0
    intact: bool = True


class Observed(NamedTuple):
    """The present state, gathered for one scrape.

    applied         what Envoy acknowledged of a model
    observed_share  the candidate's share of the latest requests of a rollout by evidence; None when there were none
    """

    deployments: Collection[Deployment]
    workers: Collection[WorkerStatus]
    applied: Callable[[str], AppliedModel | None]
    controller: Controller = Controller()
    observed_share: Callable[[str], float | None] = lambda _model: None


def served(deployments: Collection[Deployment]) -> list[Deployment]:
    """Those of which something is served: a model that was drained is gone from every dashboard."""
    return [d for d in deployments if d.state is not State.ABSENT]


def readings(now: Observed) -> Iterator[Reading]:
    """Everything there is to read."""
    yield from _controller(now.controller)
    for d in served(now.deployments):
        yield from _slots(d)
        yield from _weights(d, now)
        yield from _revisions(d, now.applied(d.model))
        yield from _state(d)
        yield from _rollout(d)
    yield from _workers(now.workers)


def _controller(controller: Controller) -> Iterator[Reading]:
    yield Reading(metrics.CONTROLLER_LEADER, (), float(controller.leader))
    yield Reading(metrics.CONTROLLER_EPOCH, (), controller.epoch)
    yield Reading(metrics.FENCED_WRITES, (), controller.fenced)
    yield Reading(metrics.AUDIT_RECORDS, (), controller.records)
    yield Reading(metrics.AUDIT_CHAIN_OK, (), float(controller.intact))


def _slots(d: Deployment) -> Iterator[Reading]:
    for role, place in d.places():
        labels = (d.model, str(place.version), place.color.value, role.value, place.digest)
        yield Reading(metrics.SLOT_INFO, labels, 1)


def _weights(d: Deployment, now: Observed) -> Iterator[Reading]:
    applied = now.applied(d.model)
    for kind, split in (("desired", d.split()), ("applied", None if applied is None else applied.split)):
        if split is None:
            continue
        for _, place in d.places():
            labels = (d.model, str(place.version), place.color.value, kind)
            yield Reading(metrics.WEIGHT_RATIO, labels, split.share(place.color) / TOTAL)
    share = now.observed_share(d.model)
    if share is None or d.trial is None:
        return
    for role, place in d.places():
        ratio = share if role is Role.CANDIDATE else 1 - share
        yield Reading(metrics.WEIGHT_RATIO, (d.model, str(place.version), place.color.value, "observed"), ratio)


def _revisions(d: Deployment, applied: AppliedModel | None) -> Iterator[Reading]:
    yield Reading(metrics.REVISION, (d.model, "recorded"), d.revision)
    yield Reading(metrics.REVISION, (d.model, "applied"), 0 if applied is None else applied.revision)


def _state(d: Deployment) -> Iterator[Reading]:
    for state in State:
        yield Reading(metrics.ROLLOUT_STATE, (d.model, state.value), float(state is d.state))
    yield Reading(metrics.ROLLOUT_STATE_ENTERED, (d.model,), d.since)
    deadline = longest_stay(d)
    if deadline is not None:
        yield Reading(metrics.ROLLOUT_STATE_DEADLINE, (d.model,), deadline)


def longest_stay(d: Deployment) -> float | None:
    """Seconds after which the control plane itself leaves the state at the latest; None where it waits for nobody but
    an operator. A rollout's own clock stands while nobody watches, so it is the plan's limit and not what is left."""
    if d.state is State.WARMING:
        return WARMING_SECONDS
    if d.state in ON_TRIAL and d.trial is not None and d.state is not State.INCONCLUSIVE:
        return d.trial.plan.pause_most if d.state is State.PAUSED else d.trial.plan.deadline
    return None if d.undo_until is None else d.undo_until - d.since


def _rollout(d: Deployment) -> Iterator[Reading]:
    """Where a rollout by evidence stands. Nothing while none is under way."""
    now = shown(d)
    if now is None:
        return
    yield Reading(metrics.ROLLOUT_STEP, (d.model,), now.step)
    yield Reading(metrics.ROLLOUT_STEPS, (d.model,), now.steps)
    for to, seconds in (("promote", now.eta), ("detect_rr2", now.twice)):
        if seconds is not None:
            yield Reading(metrics.ETA, (d.model, to), seconds)
    for guardrail in now.guardrails:
        yield from _evidence(d, guardrail)


def _evidence(d: Deployment, seen: ShownGuardrail) -> Iterator[Reading]:
    watched = seen.watched.value
    said: dict[str, tuple[float | None, float]] = {
        "harm": (seen.harm, seen.harm_threshold),
        "safe": (seen.safe, seen.safe_threshold),
    }
    for hypothesis, (evidence, threshold) in said.items():
        if evidence is not None:
            yield Reading(metrics.EVIDENCE, (d.model, watched, hypothesis), evidence)
            yield Reading(metrics.EVIDENCE_THRESHOLD, (d.model, watched, hypothesis), threshold)
    if seen.risk is not None:
        for bound in ("lower", "estimate", "upper"):
            yield Reading(metrics.RELATIVE_RISK, (d.model, watched, bound), getattr(seen.risk, bound))
    arms = {Role.LIVE: seen.live, Role.CANDIDATE: seen.candidate}
    for role, place in d.places():
        if role in arms:
            labels = (d.model, str(place.version), place.color.value, watched)
            yield Reading(metrics.ROLLOUT_UNITS, labels, arms[role].units)
            yield Reading(metrics.ROLLOUT_BAD_UNITS, labels, arms[role].bad)


def _workers(workers: Collection[WorkerStatus]) -> Iterator[Reading]:
    count = Tally((w.model, str(w.version), w.color.value, w.state) for w in workers)
    for model, version, color in sorted({key[:3] for key in count}):
        for state in WorkerState:  # every state, so that a count falls to 0 instead of vanishing
            labels = (model, version, color, state.value)
            yield Reading(metrics.WORKERS, labels, count[model, version, color, state])
