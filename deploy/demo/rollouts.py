"""The demo's rollouts by evidence: the plan in words, what is known while it runs, and how it ended.

Moves nothing itself: it deploys a version by the plan and looks on.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Internal
from contracts.traffic import TOTAL, percent
from deploy.answers import RolloutState, Status
from deploy.client import Client
from deploy.demo.models import MODEL, Version
from deploy.demo.story import Story
from deploy.demo.tally import Tally
from deploy.demo.traffic import Traffic
from deploy.rollout.plan import Plan, Watched
from deploy.rollout.plan_file import parse_plan, plan_to_json

PLAN = Path(__file__).with_name("plan.yaml")
PATIENCE_SECONDS = 180.0  # longer than the plan's own deadline
LOOK_SECONDS = 0.5
LINE_SECONDS = 2.0  # between two lines of the story, unless the step changes
OVER = ("promoted", "rolled_back", "inconclusive", "failed")


@dataclass(frozen=True)
class Ended:
    """How a rollout ended: its state and reason, how long it took, and what callers got meanwhile."""

    status: Status
    state: str
    reason: str
    seconds: float
    seen: Tally


def put_plan(home: Path) -> Path:
    """A copy of the plan where the newcomer can look at it and change it."""
    return Path(shutil.copy(PLAN, home / "demo" / PLAN.name))


def explain(story: Story, plan: Plan, candidate: Version, live: Version) -> None:
    """What the plan will do, in a few sentences."""
    steps = ", ".join(f"{percent(step.weight)} for {step.dwell:g} s" for step in plan.steps)
    errors = next(guardrail for guardrail in plan.guardrails if guardrail.watched is Watched.ERRORS)
    story.say(f"its plan: {steps}, then {percent(TOTAL - plan.holdback)} for {plan.bake:g} s, then all;")
    story.say(f"meanwhile what version {candidate.number} does is compared with what version {live.number} does:")
    story.say(
        f"at odds of {1 / plan.alpha_of(errors):,.0f} to 1 that it is worse it is rolled back; at odds of "
        f"{1 / plan.beta:,.0f} to 1 that it is no worse it may become live"
    )


def read_plan(file: Path) -> Plan:
    return parse_plan(file.read_text(encoding="utf-8"), file.name)


def roll_out(
    story: Story, operator: Client, traffic: Traffic, plan: Plan, *, candidate: Version, live: Version
) -> Ended:
    """Deploy `candidate` by the plan and tell what is seen until it is over."""
    with story.stages(f"version {candidate.number}") as tell:
        tell("loads", f"beside version {live.number}, with what that one leaves of the processors")
        before = len(traffic.answers())
        # A second demo on the same home rolls out what evidence rolled back in the first one.
        status: Status = operator.deploy(MODEL, candidate.number, plan=plan_to_json(plan), retry=True, reason="demo")
    begin = time.monotonic()
    story.evidence_heading(live.number, candidate.number)
    told, held = ("", 0.0), ""
    while (rollout := _rollout(status))["state"] not in OVER:
        if time.monotonic() - begin > PATIENCE_SECONDS:
            raise Internal(f"the rollout of version {candidate.number} did not end: {rollout['reason']}")
        here, now = f"{rollout['state']} {rollout['step']}", time.monotonic()
        if here != told[0] or now - told[1] >= LINE_SECONDS:
            story.evidence(rollout)
            told = here, now
        if rollout["state"] in ("hold", "blind") and not held:
            story.say(f"it stands still: {rollout['reason']}")
        held = rollout["state"] if rollout["state"] in ("hold", "blind") else ""
        time.sleep(LOOK_SECONDS)
        status = operator.status(MODEL)
    seen = Tally(traffic.answers()[before:])
    return Ended(status, rollout["state"], rollout["reason"], time.monotonic() - begin, seen)


def _rollout(status: Status) -> RolloutState:
    if status["rollout"] is None:
        raise Internal(f"nothing of {MODEL} is rolling out: {status}")
    return status["rollout"]
