"""Records rollouts as files, which tests/histories/test_histories.py replays against today's decisions.

python -m tests.histories.record writes all of STORIES anew. Look at the difference: it is what operators would notice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from contracts.traffic import TOTAL
from deploy.evidence.counted import Counted
from deploy.rollout.deployment import Deployment, State
from deploy.rollout.events import Observation
from deploy.rollout.plan import BLUEGREEN, CANARY, DEFAULT_GUARDRAILS, SHADOW, Plan, Step, Watched
from deploy.rollout.rules import decide
from tests.deploy.rollout.simulated import TICK, Version, lognormal, look, served, started

FOLDER = Path(__file__).parent
FITTING = tuple(replace(g, objective=0.01) if g.watched is Watched.ERRORS else g for g in DEFAULT_GUARDRAILS)
SHORT = replace(CANARY, steps=(Step(1000, 10.0), Step(5000, 10.0)), bake=10.0, guardrails=FITTING)
QUICK = Version(durations=lognormal(0.0015, 0.4))


@dataclass(frozen=True)
class Change:
    """What was decided at a tick (from 0), and where the rollout stood then."""

    tick: int
    action: str
    state: State
    weight: int


@dataclass(frozen=True)
class History:
    """`changes` are all decisions; in the other ticks it stood still."""

    begun: Deployment
    glances: tuple[Observation, ...]
    changes: tuple[Change, ...]


FORM: TypeAdapter[History | None] = TypeAdapter(History | None, config=ConfigDict(ser_json_inf_nan="constants"))

Told = Callable[[np.random.Generator, Deployment, int], Counted]


@dataclass(frozen=True)
class Story:
    plan: Plan
    ticks: int
    told: Told


def traffic(live: Version = QUICK, candidate: Version = QUICK) -> Told:
    def told(rng: np.random.Generator, d: Deployment, _tick: int) -> Counted:
        if d.state is State.SHADOW:
            return served(rng, 110, 1 / 11, live, candidate)
        return served(rng, 100, d.weight / TOTAL, live, candidate)

    return told


def sick_for_a_while(rng: np.random.Generator, d: Deployment, tick: int) -> Counted:
    live = replace(QUICK, failing=0.3) if 3 <= tick < 7 else QUICK
    return traffic(live)(rng, d, tick)


STORIES = {
    "healthy": Story(SHORT, 16, traffic()),
    "errors": Story(SHORT, 12, traffic(candidate=replace(QUICK, failing=0.05))),
    "slower": Story(SHORT, 16, traffic(Version(), Version(durations=lognormal(0.030)))),
    "one-class": Story(replace(SHORT, deadline=60.0), 16, traffic(candidate=replace(QUICK, answers=(1.0, *[0.0] * 9)))),
    "live-sick-for-a-while": Story(SHORT, 30, sick_for_a_while),
    "bluegreen": Story(replace(BLUEGREEN, mirror_for=10.0, steps=(Step(9500, 10.0),), bake=10.0, guardrails=FITTING),
                       20, traffic()),
    "shadow": Story(replace(SHADOW, mirror_for=10.0), 6, traffic()),
}  # fmt: skip


def replay(begun: Deployment, glances: Iterator[Observation] | tuple[Observation, ...]) -> tuple[Change, ...]:
    d, changes = begun, []
    for tick, observation in enumerate(glances):
        decision = decide(d, observation, tick * TICK)
        d = decision.deployment
        if decision.action is not None:
            changes.append(Change(tick, decision.action, d.state, d.weight))
    return tuple(changes)


def record(story: Story) -> History:
    rng, glances = np.random.default_rng(20261121), []
    begun = d = started(story.plan)
    for tick in range(story.ticks):
        if d.trial is None:
            break
        glances.append(look(story.told(rng, d, tick)))
        d = decide(d, glances[-1], tick * TICK).deployment
    return History(begun, tuple(glances), replay(begun, tuple(glances)))


if __name__ == "__main__":
    for name, story in STORIES.items():
        (FOLDER / f"{name}.json").write_bytes(FORM.dump_json(record(story)) + b"\n")
