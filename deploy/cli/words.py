"""What the state of a model means, in words: tables and the one sentence after a command. Pure; prints nothing."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from deploy.answers import Deployed, Overview, Place, Status
from deploy.cli import render
from deploy.cli.evidence import evidence, ways
from deploy.rollout.plan import Strategy


def after_deploy(status: Deployed) -> Iterable[RenderableType]:
    """The reason the control plane recorded, what speaks against it, then what one can do next."""
    yield reason(status)
    if status["warning"] is not None:
        yield Text(f"  but: {status['warning']}", "yellow")
    model, candidate, rollout = status["model"], status["candidate"], status["rollout"]
    if candidate is not None and rollout is not None and rollout["strategy"] == Strategy.MANUAL:
        yield f"  move traffic:  teal weight {model} 10"
        yield f"  make it live:  teal promote {model}"
        yield f"  give it up:    teal rollback {model}"
    elif candidate is not None:
        yield f"  watch it:    teal status {model} --watch"
        yield f"  hold it:     teal pause {model}"
        yield f"  give it up:  teal rollback {model}"
    elif status["live"] is not None:
        yield f"  try it:  teal predict {model} --data '[...]'"


def after_move(status: Status) -> Iterable[RenderableType]:
    """After weight, promote, abort, rollback, undo and drain: where traffic goes now, and the way back."""
    yield reason(status)
    shares = [
        f"version {where['version']} ({where['color']}) {render.share(where['weight'])}"
        for where in (status["live"], status["candidate"])
        if where is not None
    ]
    if shares:
        yield f"  acknowledged by Envoy: {', '.join(shares)}"
    if status["previous"] is not None:
        yield f"  version {status['previous']['version']} stays warm until {render.when(status['previous']['until'])}"


def overview(seen: Overview) -> Iterable[RenderableType]:
    gateway = seen["gateway"]
    if gateway is None:
        yield Text("no gateway is running; this is what the next one will serve", "dim")
    else:
        yield Text(
            f"predictions on port {gateway['port']}, operating on port {gateway['admin_port']}, "
            f"Envoy {gateway['envoy']}, pid {gateway['pid']}",
            "dim",
        )
    if not seen["models"]:
        yield "no model is registered yet; begin with: teal register NAME SOURCE"
    for status in seen["models"]:
        yield ""
        yield from model_status(status)


def model_status(status: Status) -> Iterable[RenderableType]:
    """Everything about one model: who stands where, what was asked, what Envoy applied, what callers got, and why."""
    yield Text.assemble((status["model"], "bold"), (f"  revision {status['revision']}", "dim"))
    live, candidate = status["live"], status["candidate"]
    if live is None and candidate is None:
        yield f"  nothing is deployed; do it with: teal deploy {status['model']}"
    else:
        standing = [(role, p) for role, p in (("live", live), ("candidate", candidate)) if p is not None]
        rows = [_standing(status, role, p) for role, p in standing]
        yield render.Fitting(*(_table(rows, columns) for columns in _COLUMNS))
        for _role, p in standing:
            yield from _troubles(p)
    previous = status["previous"]
    if previous is not None:
        yield (
            f"  version {previous['version']} ({previous['color']}) was live before and stays warm until "
            f"{render.when(previous['until'])}"
        )
    yield from _why(status)


def page(seen: Overview) -> Group:
    """The overview as one thing that can be redrawn in place."""
    return Group(*overview(seen))


_COLUMNS = (
    ("role", "version", "place", "weight", "applied", "observed", "workers", "digest"),
    ("role", "version", "place", "weight", "applied", "observed", "workers"),
    ("role", "version", "weight", "applied", "observed"),
)
"""What is shown of a version, as much as the terminal has room for."""


def _standing(status: Status, role: str, where: Place) -> Mapping[str, str | Text]:
    return {
        "role": f"  {role}",
        "version": str(where["version"]),
        "place": render.place(where["color"]),
        "weight": render.share(where["weight"]),
        "applied": render.share(_applied(status, where)),
        "observed": _observed(status, role),
        "workers": _workers(where),
        "digest": render.digest(where["digest"]),
    }


def _table(rows: Sequence[Mapping[str, str | Text]], columns: Sequence[str]) -> RenderableType:
    headings = [f"  {column}" if column == "role" else column for column in columns]
    return render.table(headings, ([row[column] for column in columns] for row in rows))


def _applied(status: Status, where: Place) -> float | None:
    return None if status["applied"] is None else status["applied"]["weights"].get(where["color"])


def _observed(status: Status, role: str) -> str:
    """Its part of the latest requests; nobody looks while no rollout by evidence is under way."""
    candidate = None if status["rollout"] is None else status["rollout"].get("observed")
    return render.share(candidate if candidate is None or role == "candidate" else 100 - candidate)


def _workers(where: Place) -> str:
    return f"{where['ready']} of {where['replicas']} ready"


def _troubles(where: Place) -> Iterable[str]:
    for worker in where["workers"]:
        if worker.get("state") != "ready" and worker.get("reason"):
            yield f"  worker {worker.get('id', '?')} is {worker.get('state')}: {worker['reason']}"


def _why(status: Status) -> Iterable[RenderableType]:
    rollout = status["rollout"]
    if rollout is None:
        return
    if rollout["reason"]:
        words = dict.fromkeys((rollout["state"], rollout["strategy"]))  # a canary by strategy canary is one word
        yield f"  {', '.join(words)}: {rollout['reason']}"
    seen = rollout.get("evidence")
    if seen is not None:
        yield from evidence(rollout["state"], seen)
        yield from ways(status["model"], rollout["state"])


def reason(status: Status) -> str:
    """Why the model stands as it does, in the control plane's words; when nothing is rolling out, how it stands."""
    model, rollout, live = status["model"], status["rollout"], status["live"]
    if rollout is not None and rollout["reason"]:
        return f"{model}: {rollout['reason']}"
    if live is not None:
        return f"{model}: version {live['version']} ({live['color']}) is live and takes all traffic"
    return f"{model} is not served; its versions stay registered"
