"""What operators see, in the JSON shapes of docs/architecture.md (deploy.answers): values in, dictionaries out.

Used by the API, and by the command line when it reads a home without a gateway.
"""

from collections.abc import Collection

from contracts.names import Color
from contracts.traffic import as_number, percent
from deploy import answers
from deploy.forecasts import ever
from deploy.ports import WorkerState, WorkerStatus
from deploy.reconcile import AppliedModel
from deploy.rollout.deployment import ON_TRIAL, Deployment, Place, State
from deploy.rollout.events import workers_of
from deploy.rollout.shown import Shown, ShownGuardrail, shown
from deploy.store.records import Event, Version

_QUIET = (State.ABSENT, State.LIVE)  # nothing is rolling out and nothing just did


def version_view(version: Version, deployment: Deployment) -> answers.Version:
    found = deployment.place_of(version.version)
    return {
        "model": version.model,
        "version": version.version,
        "digest": version.digest,
        "plan": version.plan,
        "role": None if found is None else found[0].value,
        "color": None if found is None else found[1].color.value,
        "weight": 0.0 if found is None else _weight(deployment, found[1].color),
        "registered_at": version.registered_at,
        "source": version.source,
        "seconds_per_row": version.seconds_per_row,
        "lineage": dict(version.lineage),
    }


def model_view(name: str, versions: int, deployment: Deployment) -> answers.ModelRow:
    return {
        "model": name,
        "live": None if deployment.live is None else deployment.live.version,
        "candidate": None if deployment.candidate is None else deployment.candidate.version,
        "versions": versions,
    }


def status_view(
    deployment: Deployment,
    workers: Collection[WorkerStatus] = (),
    applied: AppliedModel | None = None,
    problem: str | None = None,
    observed: float | None = None,
) -> answers.Status:
    """`problem` is why what is recorded is not in force; it joins the reason until it is. `observed` is the candidate's
    share of the latest requests, 0 to 1, None when that is not known."""
    return {
        "model": deployment.model,
        "revision": deployment.revision,
        "live": _place_view(deployment, deployment.live, workers),
        "candidate": _place_view(deployment, deployment.candidate, workers),
        "previous": _previous_view(deployment),
        "rollout": _rollout_view(deployment, None if _in_force(deployment, applied) else problem, observed),
        "applied": _applied_view(applied),
    }


def event_view(event: Event) -> answers.Event:
    return {
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor,
        "action": event.action,
        "model": event.model,
        "version": event.version,
        "reason": event.reason,
        "before": None if event.before is None else dict(event.before),
        "after": None if event.after is None else dict(event.after),
        "previous_hash": event.previous_hash,
        "hash": event.hash,
    }


def _place_view(d: Deployment, place: Place | None, workers: Collection[WorkerStatus]) -> answers.Place | None:
    if place is None:
        return None
    own = workers_of(d.model, place, workers)
    return {
        "version": place.version,
        "color": place.color.value,
        "weight": _weight(d, place.color),
        "digest": place.digest,
        "replicas": place.replicas,
        "threads": place.threads,
        "ready": sum(w.state is WorkerState.READY for w in own),
        "workers": [
            {"id": w.id, "state": w.state.value, "pid": w.pid, "restarts": w.restarts, "reason": w.reason} for w in own
        ],
    }


def _previous_view(d: Deployment) -> answers.Previous | None:
    if d.previous is None:
        return None
    return {"version": d.previous.version, "color": d.previous.color.value, "until": d.undo_until}


def _rollout_view(d: Deployment, problem: str | None, observed: float | None) -> answers.RolloutState | None:
    if d.state in _QUIET and problem is None:
        return None
    return {
        "strategy": d.strategy.value,
        "state": d.state.value,
        "step": percent(d.weight) if d.state in ON_TRIAL else None,
        "reason": d.reason if problem is None else f"{d.reason}; not in force yet: {problem}",
        "observed": None if observed is None else round(100 * observed, 2),
        "evidence": _evidence_view(shown(d)),
    }


def _evidence_view(evidence: Shown | None) -> answers.Evidence | None:
    if evidence is None:
        return None
    return {
        "step": evidence.step,
        "steps": evidence.steps,
        "stage": evidence.stage.value,
        "weight": as_number(evidence.weight),
        "dwelt": evidence.dwelt,
        "dwell": evidence.dwell,
        "units": evidence.units,
        "units_needed": evidence.units_needed,
        "age": evidence.age,
        "deadline": evidence.deadline,
        "unseen": evidence.unseen,
        "eta": None if evidence.eta is None else ever(evidence.eta),
        "twice": None if evidence.twice is None else ever(evidence.twice),
        "guardrails": [_guardrail_view(guardrail) for guardrail in evidence.guardrails],
    }


def _guardrail_view(g: ShownGuardrail) -> answers.GuardrailEvidence:
    return {
        "watched": g.watched.value,
        "on_harm": g.on_harm.value,
        "harm": _power(g.harm),
        "harm_threshold": g.harm_threshold,
        "safe": None if g.safe is None else _power(g.safe),
        "safe_threshold": g.safe_threshold,
        "required": g.required,
        "risk": None if g.risk is None else {"lower": g.risk.lower, "estimate": g.risk.estimate, "upper": g.risk.upper},
        "live": {"units": g.live.units, "bad": g.live.bad},
        "candidate": {"units": g.candidate.units, "bad": g.candidate.bad},
        "said": g.said,
    }


def _power(evidence: float) -> float:
    """A power of ten that JSON can hold: what is impossible is as impossible as it gets."""
    return max(-_CERTAIN, min(_CERTAIN, evidence))


_CERTAIN = 300.0


def _applied_view(applied: AppliedModel | None) -> answers.AppliedWeights | None:
    if applied is None or applied.split is None:
        return None
    split = applied.split
    return {"revision": applied.revision, "weights": {c.value: as_number(split.share(c)) for c in Color}}


def _in_force(d: Deployment, applied: AppliedModel | None) -> bool:
    """A model that was never deployed asks nothing of Envoy, so nothing can be missing."""
    return d.revision == 0 if applied is None else applied.revision == d.revision


def _weight(d: Deployment, color: Color) -> float:
    split = d.split()
    return 0.0 if split is None else as_number(split.share(color))
