"""What is known about versions, in words: the list of a model, the whole report of one, the history. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from contracts.package import Manifest, PlanReport
from contracts.preprocessing import to_json
from deploy.answers import Event, History, Models, Version, Versions
from deploy.cli import render

LINEAGE_KEYS = ("training_run", "dataset", "dataset_digest", "git_commit", "parameters", "metrics", "notes")


def models(seen: Models) -> Iterable[RenderableType]:
    if not seen["models"]:
        yield "no models yet; add one with: teal register NAME SOURCE"
        return
    yield render.table(
        ["model", "live", "candidate", "versions"],
        [[m["model"], _number(m["live"]), _number(m["candidate"]), str(m["versions"])] for m in seen["models"]],
    )


def versions(seen: Versions, manifests: Mapping[int, Manifest]) -> Iterable[RenderableType]:
    """The versions of one model, and for each how its plans did; `manifests` holds what could be read."""
    yield render.table(
        ["version", "role", "place", "weight", "plan", "per row", "digest"],
        [
            [
                str(v["version"]),
                v.get("role") or "-",
                render.place(v.get("color")),
                render.share(v.get("weight")) if v.get("role") else "-",
                v["plan"],
                render.duration(v.get("seconds_per_row")),
                render.digest(v["digest"]),
            ]
            for v in seen["versions"]
        ],
    )
    for v in seen["versions"]:
        yield ""
        yield Text(f"version {v['version']}", "bold")
        yield f"  registered: {render.when(v.get('registered_at'))} from {v.get('source')}"
        yield from lineage(v.get("lineage") or {})
        if v["version"] in manifests:
            yield from (f"  {key}: {value}" for key, value in _reduced(manifests[v["version"]]).items())
            yield plans(manifests[v["version"]])


def version(seen: Version, manifest: Manifest) -> Iterable[RenderableType]:
    """Everything about one version."""
    yield Text(f"{seen['model']} version {seen['version']}", "bold")
    facts = {
        "digest": seen["digest"],
        "source": f"{seen.get('source')} ({manifest.source_kind})",
        "registered": render.when(seen.get("registered_at")),
        "role": " ".join(filter(None, [seen.get("role") or "not deployed", seen.get("color")])),
        "plan": f"{seen['plan']}, {render.duration(seen.get('seconds_per_row'))} per row",
        **_reduced(manifest),
        "batch sizes": ", ".join(map(str, manifest.buckets)),
        "prepared with": ", ".join(f"{k} {v}" for k, v in sorted(manifest.prepared_with.items())) or "-",
        "files": f"{len(manifest.files)}, {sum(f.size for f in manifest.files) / 1024:,.0f} KiB together",
    }
    yield from (f"  {key}: {value}" for key, value in facts.items())
    yield from lineage(seen.get("lineage") or {})
    for signature in manifest.signatures:
        yield f"  signature {signature.name}{'' if signature.batched else ' (rows are not joined into batches)'}"
        yield from (f"    takes {spec.name}: {spec}" for spec in signature.inputs)
        yield from (f"    gives {spec.name}: {spec}" for spec in signature.outputs)
    if manifest.preprocessing is not None:
        yield f"  pictures: {_pairs(to_json(manifest.preprocessing))}"
    yield plans(manifest)
    for plan in _ordered(manifest):
        yield f"  {plan.name}, {plan.status}: {plan.reason}"
        yield from (f"    {words}" for words in _measured(plan))
    yield speeds(manifest)


def registered(seen: Version, manifest: Manifest) -> Iterable[RenderableType]:
    """After `teal register`: which version it became, which plan won and why, and what to do next."""
    yield f"{seen['model']} version {seen['version']} is registered, digest {render.digest(seen['digest'])}"
    chosen = manifest.plan_report(manifest.plan)
    yield f"  plan {chosen.name}: {chosen.reason}"
    yield from (f"  {key}: {value}" for key, value in _reduced(manifest).items())
    yield plans(manifest)
    yield f"  serve it:  teal deploy {seen['model']} {seen['version']}"


def plans(manifest: Manifest) -> RenderableType:
    """Speed at the smallest, a middle and the largest batch, and error against TensorFlow; the chosen plan first."""
    ordered = _ordered(manifest)
    sizes = _sizes(ordered)
    shown = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]}, key=int) if sizes else []
    return render.table(
        ["  plan", "result", *(f"batch {size}" for size in shown), "error", "flips", "rows"],
        [
            [
                f"  {plan.name}",
                plan.status,
                *(render.duration(plan.seconds_per_run.get(size)) for size in shown),
                *_accuracy(plan),
            ]
            for plan in ordered
        ],
    )


def speeds(manifest: Manifest) -> RenderableType:
    """The median time of one run at every batch size that was measured, plan beside plan."""
    ordered = _ordered(manifest)
    return render.table(
        ["  batch", *(plan.name for plan in ordered)],
        [
            [f"  {size}", *(render.duration(plan.seconds_per_run.get(size)) for plan in ordered)]
            for size in _sizes(ordered)
        ],
    )


def _reduced(manifest: Manifest) -> dict[str, str]:
    """That the chosen plan gives up precision, and what that costs; nothing for one that does not."""
    plan = next((p for p in manifest.plans if p.name == manifest.plan), None)
    if plan is None or plan.precision is None:
        return {}
    rows = f" in {plan.rows_checked} rows" if plan.rows_checked is not None else ""
    return {
        "precision": f"reduced to {plan.precision}: off by up to {_share(plan.max_rel_error)} of the largest value, "
        f"{_number(plan.argmax_flips)} argmax flips{rows}"
    }


def _measured(plan: PlanReport) -> Iterable[str]:
    """The numbers behind a plan's status: what was allowed, what was found, and what more threads would bring."""
    if plan.rows_checked is not None:
        yield (
            f"found: off by up to {_share(plan.max_rel_error)} of the largest value, {_number(plan.argmax_flips)} "
            f"argmax flips, {plan.rows_checked} rows compared"
        )
    for dtype, (of_largest, of_value) in sorted(plan.tolerance.items()):
        yield f"allowed for {dtype}: {of_largest:g} of the output's largest value and {of_value:g} of the value itself"
    if plan.threads is not None:
        kept = f"threads kept: {plan.threads}"
        tried = (
            f"with {count}: {render.duration(seconds.get('1'))} for one row, "
            f"{render.duration(seconds[max(seconds, key=int)])} for {max(seconds, key=int)}"
            for count, seconds in sorted(plan.seconds_by_threads.items(), key=lambda item: int(item[0]))
        )
        yield "; ".join((kept, *tried))


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.2%}"


def _ordered(manifest: Manifest) -> list[PlanReport]:
    return sorted(manifest.plans, key=lambda plan: plan.name != manifest.plan)


def _sizes(reports: Iterable[PlanReport]) -> list[str]:
    return sorted({size for plan in reports for size in plan.seconds_per_run}, key=int)


def lineage(known: Mapping[str, Any]) -> Iterable[str]:
    """What is known of where a version comes from; nothing is said of what is not known."""
    for key in LINEAGE_KEYS:
        value = known.get(key)
        if value:
            yield f"  {key.replace('_', ' ')}: {value if isinstance(value, str) else _pairs(value)}"


def history(seen: History) -> Iterable[RenderableType]:
    if not seen["events"]:
        yield f"nothing has happened to {seen['model']} yet"
        return
    told = [[render.when(e["at"]), e["actor"], e["action"], _number(e["version"]), _reason(e)] for e in seen["events"]]
    yield render.Fitting(render.table(["when", "who", "did", "version", "why"], told), Group(*map(_told_below, told)))


def _told_below(event: Sequence[str]) -> RenderableType:
    """One event where a line is too short for it: what happened, and why below that. A sentence of an automatic move
    holds the counts it was made from, and nobody reads it in a column of ten characters."""
    when, who, did, version, why = event
    return Group(Text.assemble((when, "dim"), f"  {who}: {did}, version {version}"), Padding(why, (0, 0, 0, 2)))


def _accuracy(plan: PlanReport) -> tuple[str, str, str]:
    """Largest error, classes that came out differently, rows compared."""
    if plan.rows_checked is None:
        return "-", "-", "-"
    error = "-" if plan.max_abs_error is None else f"{plan.max_abs_error:.2g}"
    return error, _number(plan.argmax_flips), str(plan.rows_checked)


def _reason(event: Event) -> str:
    return event["reason"] or "-"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {item if isinstance(item, str) else json.dumps(item)}" for key, item in value.items())
