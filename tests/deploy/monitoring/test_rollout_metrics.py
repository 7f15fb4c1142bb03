"""What Prometheus is told of rollouts: everything from 0 on, nothing longer than it holds, and what was measured."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from contracts.metrics import CONTROL_METRICS, DECISIONS, ROLLOUT_METRICS
from deploy.evidence.counters import GapKind
from deploy.feedback import Report, Result
from deploy.rollout.deployment import State
from deploy.rollout.steering import Because
from tests.deploy.plane import BOUND, Plane, plane

TICK = 5.0
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Page = dict[str, dict[tuple[str, ...], float]]


def drive(path: Path, story: Callable[[Plane], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        async with plane(path, **options) as running:
            await story(running)

    asyncio.run(told())


async def page(p: Plane) -> Page:
    """Metric → values of its labels but `model`, in the order of the labels' names → value."""
    found: Page = {}
    for line in (await p.http.get("/metrics")).text.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            labels = tuple(value for name, value in sorted(_LABEL.findall(match[2] or "")) if name != "model")
            found.setdefault(match[1], {})[labels] = float(match[3])
    return found


async def canary(p: Plane) -> None:
    p.versions("m", 2)
    await p.must("m/deploy", version=1)
    await p.must("m/deploy", version=2, strategy="canary")


async def tick(p: Plane, *, requests: int = 2000, failing: float = 0.0, observed: float | None = None) -> Page:
    """Five seconds of traffic, divided as it should be or as `observed` says."""
    weight = p.traffic.table.models[0].split.green / 10_000 if observed is None else observed
    there = round(requests * weight)
    p.counters.answer("m", 1, requests - there, failed=round((requests - there) * 0.001))
    p.counters.answer("m", 2, there, failed=round(there * failing))
    p.clock.move(TICK)
    await p.reconciler.next_tick(BOUND)
    return await page(p)


def test_every_series_of_a_model_is_there_with_zero_before_anything_happens(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        await p.must("m/deploy", version=1)
        seen = await page(p)
        decided = seen["teal_rollout_decisions_total"]
        assert set(decided) == set(DECISIONS)
        assert {kind: n for kind, n in decided.items() if n} == {("live", "plan"): 1.0}
        assert seen["teal_rollout_evidence_gaps_total"] == {(kind.value,): 0.0 for kind in GapKind}
        assert seen["teal_rollout_state"] == {(s.value,): float(s is State.LIVE) for s in State}
        assert seen["teal_rollout_duration_seconds_count"] == {("promoted",): 0, ("rolled_back",): 0, ("other",): 0}
        assert seen["teal_rollback_apply_seconds_count"] == {(): 0}
        missing = {m.name for m in CONTROL_METRICS if not any(name.startswith(m.name) for name in seen)}
        assert missing == {"teal_rollout_state_deadline_seconds"}, "a live version may stay"

    drive(tmp_path, story)


def test_a_rollout_shows_its_evidence_against_thresholds_while_it_is_under_way_and_not_longer(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await canary(p)
        for _ in range(4):
            seen = await tick(p, failing=0.001)
        evidence, thresholds = (seen[f"teal_rollout_evidence_{kind}log10"] for kind in ("", "threshold_"))
        assert set(evidence) == set(thresholds)
        assert ("harm", "errors") in evidence
        assert all(evidence[key] < thresholds[key] for key in evidence if key[0] == "harm")
        assert set(seen["teal_rollout_eta_seconds"]) == {("promote",), ("detect_rr2",)}
        assert all(0 < seconds < 86400 for seconds in seen["teal_rollout_eta_seconds"].values())
        assert seen["teal_rollout_step"] == {(): 1.0}
        assert seen["teal_rollout_steps"] == {(): 5.0}
        assert seen["teal_rollout_last_evidence_timestamp_seconds"][()] == p.clock.wall()
        while (seen := await tick(p, failing=0.3))["teal_rollout_state"][("rolled_back",)] == 0:
            pass
        over = {m.name for m in ROLLOUT_METRICS} & set(seen)
        assert over == set(), "nothing of a rollout stays behind"
        assert seen["teal_rollout_decisions_total"][("rollback", "harm")] == 1
        assert seen["teal_rollout_duration_seconds_count"][("rolled_back",)] == 1
        assert seen["teal_rollback_apply_seconds_count"] == {(): 1}
        assert not any("2" in labels for labels in seen["teal_slot_info"])

    drive(tmp_path, story)


def test_weights_are_told_as_desired_applied_and_observed(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await canary(p)
        await tick(p)  # the first look at its counters is only something to subtract
        seen = await tick(p, observed=0.02)
        weights = {f"{version} {kind}": v for (_, kind, version), v in seen["teal_rollout_weight_ratio"].items()}
        assert weights == {
            "1 desired": 0.99, "2 desired": 0.01, "1 applied": 0.99, "2 applied": 0.01,
            "1 observed": 0.98, "2 observed": 0.02,
        }  # fmt: skip
        for _ in range(7):
            seen = await tick(p, requests=0)
        kinds = {labels[1] for labels in seen["teal_rollout_weight_ratio"]}
        assert kinds == {"desired", "applied"}, "a share of no requests is not 0, it is unknown"

    drive(tmp_path, story)


def test_gaps_are_counted_by_kind_and_evidence_grows_old(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        await canary(p)
        before = await tick(p)
        p.counters.broken = "Envoy's admin did not answer"
        for _ in range(3):
            seen = await tick(p)
        gaps = seen["teal_rollout_evidence_gaps_total"]
        assert {kind: n for kind, n in gaps.items() if n} == {("first_look",): 1.0, ("unavailable",): 3.0}
        newest = "teal_rollout_last_evidence_timestamp_seconds"
        assert seen[newest] == before[newest] == {(): p.clock.wall() - 3 * TICK}

    drive(tmp_path, story)


def test_an_operators_rollback_is_timed_as_well(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        await p.must("m/weight", percent=30)
        assert (await page(p))["teal_rollback_apply_seconds_count"] == {(): 0}
        await p.must("m/abort")
        assert (await page(p))["teal_rollback_apply_seconds_count"] == {(): 1}
        await p.must("m/deploy", version=2, strategy="direct")
        await p.must("m/undo")
        assert (await page(p))["teal_rollback_apply_seconds_count"] == {(): 2}

    drive(tmp_path, story)


def test_what_is_recorded_and_not_in_force_shows_as_two_revisions(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 2)
        await p.must("m/deploy", version=1)
        await p.must("m/deploy", version=2, strategy="manual")
        both = (await page(p))["teal_deployment_revision"]
        assert both[("recorded",)] == both[("applied",)] > 0
        p.traffic.refuse = "no"
        assert (await p.post("m/weight", percent=30)).status_code == 503
        both = (await page(p))["teal_deployment_revision"]
        assert both[("recorded",)] == both[("applied",)] + 1

    drive(tmp_path, story, ack_seconds=0.2)


def test_a_drained_model_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        await p.must("m/deploy", version=1)
        await page(p)
        await p.must("m/drain")
        text = (await p.http.get("/metrics")).text
        assert 'model="m"' not in text

    drive(tmp_path, story)


def test_labels_are_counted_by_result_and_their_age_by_version(tmp_path: Path) -> None:
    async def story(p: Plane) -> None:
        p.versions("m", 1)
        await p.must("m/deploy", version=1)
        seen = await page(p)
        assert seen["teal_feedback_total"] == {(result.value,): 0.0 for result in Result}
        assert seen["teal_feedback_lag_seconds_count"] == {("blue", "1"): 0.0}
        p.memories.answered("a", 1, 3, at=p.clock.wall() - 30)
        await p.outcomes.judge.hear([Report("a", (3,)), Report("b", (3,))])
        seen = await page(p)
        assert (seen["teal_feedback_total"][("judged",)], seen["teal_feedback_total"][("unknown",)]) == (1, 1)
        within = {le: n for (_, le, _), n in seen["teal_feedback_lag_seconds_bucket"].items()}
        assert (within["10.0"], within["60.0"], within["+Inf"]) == (0, 1, 1)

    drive(tmp_path, story)


def test_every_reason_of_the_rules_stands_in_the_metric() -> None:
    never = {Because.COMPARED}  # a candidate that only mirrors is never moved by itself
    assert {reason for _, reason in DECISIONS} >= {each.value for each in set(Because) - never}
    states = {"hold", "blind", "inconclusive"}
    assert states <= {decision for decision, _ in DECISIONS}
