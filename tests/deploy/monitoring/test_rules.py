"""Every shipped alert fires when it should and is silent when it should be, as Prometheus itself evaluates it."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.deploy.monitoring.test_prometheus import needs_promtool
from tests.prometheus import RULES, rules

ROOT = Path(__file__).parents[3]

LIVE, CANDIDATE = 'model="m",version="1",color="blue"', 'model="m",version="2",color="green"'


@dataclass(frozen=True)
class Story:
    """`series` are sampled every `step`, in promtool's notation; what fires is asked at `at`."""

    alert: str
    when: str
    fires: bool
    series: dict[str, str] = field(default_factory=dict)
    at: str = "30m"
    step: str = "1m"

    def __str__(self) -> str:
        return f"{self.alert} {'fires' if self.fires else 'is silent'} {self.when}".replace(" ", "_")


def answered(version: str, values: str) -> dict[str, str]:
    return {f'envoy_cluster_upstream_rq_completed{{kind="predict",{version}}}': values}


def failed(version: str, values: str) -> dict[str, str]:
    return {f'envoy_cluster_upstream_rq_xx{{kind="predict",envoy_response_code_class="5",{version}}}': values}


def slot(version: str, role: str) -> dict[str, str]:
    return {f'teal_slot_info{{{version},role="{role}",digest="d"}}': "1x600"}


def state(name: str, entered: str = "0x600") -> dict[str, str]:
    """In one state since a moment, in seconds."""
    return {f'teal_rollout_state{{model="m",state="{name}"}}': "1x600",
            'teal_rollout_state_entered_timestamp_seconds{model="m"}': entered}  # fmt: skip


def revisions(recorded: str, applied: str) -> dict[str, str]:
    return {'teal_deployment_revision{model="m",kind="recorded"}': recorded,
            'teal_deployment_revision{model="m",kind="applied"}': applied}  # fmt: skip


def weight(version: str, applied: float) -> dict[str, str]:
    return {f'teal_rollout_weight_ratio{{{version},kind="applied"}}': f"{applied}x600"}


def workers(version: str, state: str, values: str) -> dict[str, str]:
    return {f'teal_workers{{{version},state="{state}"}}': values}


def up(control: str = "1x60", envoy: str = "1x60") -> dict[str, str]:
    return {'up{job="teal-control",instance="control"}': control, 'up{job="teal-envoy",instance="envoy"}': envoy}


BOTH = slot(LIVE, "live") | slot(CANDIDATE, "candidate")
HOURS = {"step": "5m", "at": "7h"}
DAYS = {"step": "30m", "at": "3d"}

STORIES = (
    Story("ModelErrorBudgetBurnsFast", "when 2 % fail for an hour", True,
          answered(LIVE, "0+600x120") | failed(LIVE, "0+12x120"), at="1h30m"),
    Story("ModelErrorBudgetBurnsFast", "when 1 % fail for six hours", True,
          answered(LIVE, "0+3000x90") | failed(LIVE, "0+30x90"), **HOURS),
    Story("ModelErrorBudgetBurnsFast", "when one in two thousand fails", False,
          answered(LIVE, "0+3000x90") | failed(LIVE, "0+1.5x90"), **HOURS),
    Story("ModelErrorBudgetBurnsFast", "when no request ever failed and Envoy has no series of failures", False,
          answered(LIVE, "0+600x120"), at="1h30m"),
    Story("ModelErrorBudgetBurnsFast", "when it is over", False,
          answered(LIVE, "0+600x120") | failed(LIVE, "0+12x60 720x60"), at="1h40m"),
    Story("ModelErrorBudgetBurnsFast", "for the one failure of a quiet night", False,
          answered(LIVE, "0+1x120") | failed(LIVE, "0x85 1x40"), at="1h30m"),
    Story("ModelErrorBudgetBurnsFast", "once more when both versions fail, which has its own alert", False,
          answered(LIVE, "0+600x120") | failed(LIVE, "0+60x120")
          | answered(CANDIDATE, "0+60x120") | failed(CANDIDATE, "0+6x120") | BOTH, at="1h30m"),
    Story("ModelErrorBudgetBurnsSlowly", "when 0.4 % fail for a day", True,
          answered(LIVE, "0+18000x150") | failed(LIVE, "0+72x150"), **DAYS),
    Story("ModelErrorBudgetBurnsSlowly", "when 0.15 % fail for three days", True,
          answered(LIVE, "0+18000x150") | failed(LIVE, "0+27x150"), **DAYS),
    Story("ModelErrorBudgetBurnsSlowly", "when one in two thousand fails", False,
          answered(LIVE, "0+18000x150") | failed(LIVE, "0+9x150"), **DAYS),
    Story("BothVersionsSick", "when one in ten fails in both", True,
          answered(LIVE, "0+600x60") | failed(LIVE, "0+60x60")
          | answered(CANDIDATE, "0+60x60") | failed(CANDIDATE, "0+6x60") | BOTH),
    Story("BothVersionsSick", "when only the candidate is", False,
          answered(LIVE, "0+600x60") | failed(LIVE, "0x60")
          | answered(CANDIDATE, "0+60x60") | failed(CANDIDATE, "0+6x60") | BOTH),
    Story("BothVersionsSick", "when the other one is no candidate any more", False,
          answered(LIVE, "0+600x60") | failed(LIVE, "0+60x60")
          | answered(CANDIDATE, "0+60x60") | failed(CANDIDATE, "0+6x60") | slot(LIVE, "live")),
    Story("BothVersionsSick", "when the candidate answered too few to say so", False,
          answered(LIVE, "0+600x60") | failed(LIVE, "0+60x60")
          | answered(CANDIDATE, "0+1x60") | failed(CANDIDATE, "0+1x60") | BOTH),
    Story("RolloutEvidenceStale", "when the newest evidence is minutes old", True,
          state("canary") | {'teal_rollout_last_evidence_timestamp_seconds{model="m"}': "1500x60"}),
    Story("RolloutEvidenceStale", "while a rollout stands still for want of it", True,
          state("blind") | {'teal_rollout_last_evidence_timestamp_seconds{model="m"}': "1500x60"}),
    Story("RolloutEvidenceStale", "when evidence comes", False,
          state("canary") | {'teal_rollout_last_evidence_timestamp_seconds{model="m"}': "0+60x60"}),
    Story("RolloutEvidenceStale", "when an operator paused the rollout", False,
          state("paused") | {'teal_rollout_last_evidence_timestamp_seconds{model="m"}': "1500x60"}),
    Story("RolloutSplitMismatch", "when the candidate gets nothing of its half", True,
          answered(LIVE, "0+600x60") | answered(CANDIDATE, "0x60") | weight(LIVE, 0.5) | weight(CANDIDATE, 0.5) | BOTH),
    Story("RolloutSplitMismatch", "when it gets its share", False,
          answered(LIVE, "0+540x60") | answered(CANDIDATE, "0+60x60")
          | weight(LIVE, 0.9) | weight(CANDIDATE, 0.1) | BOTH),
    Story("RolloutSplitMismatch", "when there are too few requests to say so", False,
          answered(LIVE, "0+60x60") | answered(CANDIDATE, "0x60") | weight(LIVE, 0.5) | weight(CANDIDATE, 0.5) | BOTH),
    Story("RolloutStuck", "when a state lasts longer than it may", True,
          state("warming") | {'teal_rollout_state_deadline_seconds{model="m"}': "900x60"}),
    Story("RolloutStuck", "when it has time left", False,
          state("warming") | {'teal_rollout_state_deadline_seconds{model="m"}': "7200x60"}),
    Story("RolloutStuck", "when the state has no limit", False, state("live")),
    Story("RolloutNeedsOperator", "when time is over without evidence", True, state("inconclusive")),
    Story("RolloutNeedsOperator", "while it goes on", False,
          {'teal_rollout_state{model="m",state="inconclusive"}': "0x60"}),
    Story("RolloutRolledBack", "for an hour after", True,
          {'teal_rollout_decisions_total{model="m",decision="rollback",reason="harm"}': "0x10 1x60"}),
    Story("RolloutRolledBack", "later", False,
          {'teal_rollout_decisions_total{model="m",decision="rollback",reason="harm"}': "0x10 1x600"}, at="2h"),
    Story("RolloutRolledBack", "for other decisions", False,
          {'teal_rollout_decisions_total{model="m",decision="advance",reason="plan"}': "0+1x60"}),
    Story("RollbackNotApplied", "when Envoy has not acknowledged it after half a minute", True,
          state("rolled_back", "1740x60") | revisions("0x29 8x60", "7x60")),
    Story("RollbackNotApplied", "when it has", False, state("rolled_back", "1740x60") | revisions("8x60", "8x60")),
    Story("RollbackNotApplied", "for something else that waits", False,
          state("canary", "1740x60") | revisions("8x60", "7x60")),
    Story("RevisionNotApplied", "when an order waits for Envoy for minutes", True, revisions("8x60", "7x60")),
    Story("RevisionNotApplied", "when it is in force", False, revisions("8x60", "8x60")),
    Story("PreviousVersionNotWarm", "when its last worker is gone", True,
          slot(CANDIDATE, "previous") | workers(CANDIDATE, "ready", "1x5 0x60")),
    Story("PreviousVersionNotWarm", "while it is warm", False,
          slot(CANDIDATE, "previous") | workers(CANDIDATE, "ready", "1x60")),
    Story("PreviousVersionNotWarm", "when the undo window is over", False, workers(CANDIDATE, "ready", "0x60")),
    Story("ControlPlaneDown", "when it is gone", True, up(control="1x5 0x60")),
    Story("ControlPlaneDown", "when it was never found", True, {'up{job="teal-envoy",instance="envoy"}': "1x60"}),
    Story("ControlPlaneDown", "when it answers", False, up()),
    Story("EnvoyDown", "when it does not answer", True, up(envoy="1x5 0x60")),
    Story("EnvoyDown", "when nobody can be asked about it, which ControlPlaneDown says", False,
          up(control="0x60", envoy="0x60")),
    Story("EnvoyDown", "when it answers", False, up()),
    Story("ControllerNoLeader", "when each waits for another", True,
          {'teal_controller_leader{instance="a"}': "1x5 0x60", 'teal_controller_leader{instance="b"}': "0x60"}),
    Story("ControllerNoLeader", "when one of two leads", False,
          {'teal_controller_leader{instance="a"}': "1x5 0x60", 'teal_controller_leader{instance="b"}': "0x5 1x60"}),
    Story("ControllerFenced", "when a write was refused", True, {"teal_controller_fenced_writes_total": "0x20 1x60"}),
    Story("ControllerFenced", "an hour later", False, {"teal_controller_fenced_writes_total": "0x20 1x100"}, at="1h"),
    Story("AuditChainBroken", "when an event was changed", True, {"teal_audit_chain_ok": "1x5 0x60"}),
    Story("AuditChainBroken", "while the history is whole", False, {"teal_audit_chain_ok": "1x60"}),
    Story("XdsNack", "when Envoy refused something", True, {'teal_xds_nacks_total{type="routes"}': "0x26 1x60"}),
    Story("XdsNack", "an hour later", False, {'teal_xds_nacks_total{type="routes"}': "0x26 1x60"}, at="1h"),
    Story("XdsNodesMissing", "when one of two is gone", True, {"teal_xds_connected_nodes": "2x20 1x60"}),
    Story("XdsNodesMissing", "when the only one is", True, {"teal_xds_connected_nodes": "0x60"}),
    Story("XdsNodesMissing", "when all are there", False, {"teal_xds_connected_nodes": "1x5 2x60"}),
    Story("LiveVersionNotReady", "when its last worker is gone", True,
          slot(LIVE, "live") | workers(LIVE, "ready", "2x5 0x60")),
    Story("LiveVersionNotReady", "while one of two is ready", False,
          slot(LIVE, "live") | workers(LIVE, "ready", "2x5 1x60")),
    Story("WorkerGivenUp", "when one is broken", True, workers(LIVE, "broken", "1x60")),
    Story("WorkerGivenUp", "when none is", False, workers(LIVE, "broken", "0x60")),
    Story("WorkersDieOften", "when five died in minutes", True,
          {f"teal_worker_restarts_total{{{LIVE}}}": "0x20 0+1x5 5x60"}),
    Story("WorkersDieOften", "when one died", False, {f"teal_worker_restarts_total{{{LIVE}}}": "0x20 1x60"}),
    Story("ModelAnswersUnlikeItsSignature", "when a worker noticed", True,
          {f"teal_worker_suspect{{{LIVE}}}": "0x5 1x60"}),
    Story("ModelAnswersUnlikeItsSignature", "when none did", False, {f"teal_worker_suspect{{{LIVE}}}": "0x60"}),
    Story("FeedbackSilent", "when a tenth of what came a week ago comes", True,
          {'teal_feedback_total{result="judged"}': "0+600x330 198000+6x40"}, at="174h", step="30m"),
    Story("FeedbackSilent", "when as many come", False,
          {'teal_feedback_total{result="judged"}': "0+600x400"}, at="174h", step="30m"),
    Story("FeedbackSilent", "when nobody ever sent any", False,
          {'teal_feedback_total{result="judged"}': "0x400"}, at="174h", step="30m"),
    Story("BatchQueueSaturated", "when one request in ten is refused", True,
          {f'teal_rejected_total{{{LIVE},reason="queue_full"}}': "0+60x60",
           f'teal_requests_total{{{LIVE},outcome="overload"}}': "0+60x60",
           f'teal_requests_total{{{LIVE},outcome="ok"}}': "0+540x60"}),
    Story("BatchQueueSaturated", "when callers send what does not fit", False,
          {f'teal_rejected_total{{{LIVE},reason="invalid"}}': "0+60x60",
           f'teal_rejected_total{{{LIVE},reason="queue_full"}}': "0x60",
           f'teal_requests_total{{{LIVE},outcome="client_error"}}': "0+60x60"}),
)  # fmt: skip


@needs_promtool
def test_promtool_accepts_every_rule_file() -> None:
    files = sorted(map(str, RULES.glob("*.yml")))
    found = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)  # noqa: S607
    assert found.returncode == 0, found.stderr


@needs_promtool
@pytest.mark.parametrize("story", STORIES, ids=str)
def test_an_alert(story: Story, tmp_path: Path) -> None:
    test = {
        "interval": story.step,
        "input_series": [{"series": name, "values": values} for name, values in story.series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{story.alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": story.at,
                "exp_samples": [{"labels": "{}", "value": int(story.fires)}],
            }
        ],
    }
    files = [str(file) for file in RULES.glob("*.yml") if f"alert: {story.alert}\n" in file.read_text()]
    page = tmp_path / "story.yml"
    page.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": story.step, "tests": [test]}))
    found = subprocess.run(["promtool", "test", "rules", str(page)], capture_output=True, text=True, check=False)  # noqa: S607
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    for fires in (True, False):
        assert {story.alert for story in STORIES if story.fires is fires} == alerts


def test_every_alert_says_what_is_the_matter_and_what_to_do_and_stands_in_the_documentation() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket", "info"), rule["alert"]
            assert f"`{rule['alert']}`" in page, f"docs/monitoring.md does not say what to do about {rule['alert']}"
