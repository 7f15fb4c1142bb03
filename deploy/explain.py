"""Who answered a request, with what, and where that version comes from: memories, registry and history put together.

Pure. Today workers remember answers, the latest of each; a log of predictions would be one more place to recall from.
"""

from collections.abc import Mapping, Sequence

from contracts.errors import NotFound
from contracts.limits import LIMITS
from contracts.names import Role
from deploy.answers import Explained, Explanation
from deploy.ports import Answered, Recalled
from deploy.rollout.deployment import Deployment, State
from deploy.store.records import Event, Version


def explanation(
    request_id: str,
    recalled: Recalled,
    versions: Mapping[tuple[str, int], Version],
    histories: Mapping[str, Sequence[Event]],
    deployments: Mapping[str, Deployment],
) -> Explanation:
    """The oldest answer first, mirrored ones last. `versions`, `histories` (newest event first) and `deployments` are
    those of the models that answered. Raises NotFound, with what to do next, when nobody remembers the request."""
    if not recalled.answers:
        raise NotFound(_forgotten(request_id, recalled.silent))
    live = {a.model for a in recalled.answers if _then(a, histories)[0] == Role.LIVE}
    answers = [
        _explained(answer, versions.get((answer.model, answer.version)), histories, deployments, answer.model in live)
        for answer in sorted(recalled.answers, key=lambda a: a.at)
    ]
    answers.sort(key=lambda answer: answer["mirrored"])  # what the caller got comes first
    return {"request_id": request_id, "answers": answers, "silent": list(recalled.silent)}


def _explained(
    answer: Answered,
    version: Version | None,
    histories: Mapping[str, Sequence[Event]],
    deployments: Mapping[str, Deployment],
    live_answered: bool,
) -> Explained:
    role, state = _then(answer, histories)
    place = deployments[answer.model].place_of(answer.version) if answer.model in deployments else None
    return {
        "model": answer.model,
        "version": answer.version,
        "color": answer.color.value,
        "worker": answer.worker,
        "role": role,
        "role_now": None if place is None else place[0].value,
        "state": state,
        "mirrored": state == State.SHADOW and role == Role.CANDIDATE and live_answered,
        "at": answer.at,
        "rows": answer.rows,
        "kind": answer.kind,
        "predicted": list(answer.predicted),
        "digest": None if version is None else version.digest,
        "plan": None if version is None else version.plan,
        "source": None if version is None else version.source,
        "registered_at": None if version is None else version.registered_at,
        "lineage": {} if version is None else dict(version.lineage),
    }


def _then(answer: Answered, histories: Mapping[str, Sequence[Event]]) -> tuple[str | None, str | None]:
    """Role of the version and state of the rollout at the moment of the answer."""
    events = histories.get(answer.model, ())
    after = next((e.after for e in events if e.at <= answer.at and e.after is not None), None)
    if after is None:
        return None, None
    roles = (role.value for role in Role if (after.get(role.value) or {}).get("version") == answer.version)
    return next(roles, None), after.get("state")


def _forgotten(request_id: str, silent: Sequence[str]) -> str:
    unasked = f" ({len(silent)} workers could not be asked)" if silent else ""
    return (
        f"nobody remembers request {request_id[:128]!r}{unasked}: each worker keeps its latest {LIMITS.answers_kept} "
        "answers, fewer where outputs are big, and one that ended keeps none; ask sooner with the x-request-id of the "
        "answer, whose x-teal-version names the version: teal models NAME VERSION shows where that comes from"
    )
