"""Rollouts by evidence on the real gateway, in seconds and in callers: how soon a bad candidate's traffic is gone after
the decision, how many saw an error, and how long a good candidate takes beyond its plan.

    python -m loadtests.rollback_bench [--rounds 20]

Rounds are rollouts of a candidate that fails one request in twenty; a fifth of them are rollouts of one whose worker is
killed, and three good ones run side by side at the end.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtests.command import options, publish, say
from loadtests.homes import fresh_home
from loadtests.report import Row
from tests.e2e import versions
from tests.e2e.gateway import Gateway, running
from tests.e2e.noticing import most_who_notice
from tests.e2e.stage import Played, Running, Scene, play

ROLLED_BACK, PROMOTED = frozenset({"rolled_back"}), frozenset({"promoted"})
GOOD = 3
GOOD_PLAN: Mapping[str, Any] = {
    "steps": [{"weight": weight, "dwell": "30s"} for weight in ("10 %", "25 %", "50 %")],
    "bake": "30s",
    "deadline": "170s",
}
GOOD_SECONDS = 120.0  # the least that this plan takes
GOOD_MOST_SECONDS = 180.0  # past the plan's deadline
MINUTE = 60.0


def dies_at_ten_percent(scene: Running) -> None:
    scene.wait_for_step("10 %")
    scene.wait_until_asked(2)
    scene.kill("candidate")


ONE_STEP: Mapping[str, Any] = {"steps": [{"weight": "25 %", "dwell": "90s"}], "deadline": "100s"}
FAILING = Scene("healthy", "failing", ROLLED_BACK, rate=200, poisoned=1, change=ONE_STEP)
DYING = Scene("healthy", "healthy_too", ROLLED_BACK, rate=200, during=dies_at_ten_percent)
HEALTHY = Scene("healthy", "healthy_too", PROMOTED, rate=100, change=GOOD_PLAN)


def alone(gateway: Gateway, model: str, scene: Scene) -> Played:
    """One rollout with nothing beside it; its model is served no longer afterwards."""
    say(f"{model}: {scene.candidate} beside {scene.live}")
    played = play(gateway, {model: scene})[model]
    gateway.order("drain", model)
    return played


def decided(played: Played, action: str) -> float:
    """Wall seconds at which the control plane recorded it. Raises RuntimeError with the story when it never did."""
    for event in reversed(played.events):
        if event["action"] == action:
            return float(event["at"])
    raise RuntimeError(f"expected a {action}:\n{played.told()}")


def until_gone(played: Played) -> float:
    """Seconds from the decision to the last request that the candidate got."""
    began = played.outcome.began
    last = max((began + s.sent for s in played.outcome.samples if s.version == "2"), default=0.0)
    return max(0.0, last - decided(played, "rollback"))


def measure(gateway: Gateway, rounds: int) -> list[Row]:
    failing = [alone(gateway, f"failing-{n}", FAILING) for n in range(rounds)]
    dying = [alone(gateway, f"dying-{n}", DYING) for n in range(max(1, rounds // 5))]
    say(f"{GOOD} good candidates side by side")
    good = play(gateway, {f"good-{n}": HEALTHY for n in range(GOOD)}, GOOD_MOST_SECONDS).values()
    noticed = tuple(float(played.failed) for played in failing)
    gone = tuple(until_gone(played) for played in failing)
    took = tuple((decided(p, "promote") - decided(p, "start")) / GOOD_SECONDS for p in good)
    in_a_minute = tuple(1 - played.failed / (DYING.rate * MINUTE) for played in dying)
    bound = most_who_notice(FAILING, failing=0.05)
    return [
        Row("from the decision to the candidate's last request", "s", gone),
        Row("the same, the longest of all", "s", (max(gone),), 1.0, at_least=False),
        Row("callers who saw an error", "", noticed),
        Row("the most of them, of what 99 % of simulated rollouts stay within", "x", (max(noticed) / bound,), 1, False),
        Row("candidate killed at 10 %: share of a minute's callers answered well", "", in_a_minute, 0.999),
        Row("good candidate: time to promotion, of the least its plan takes", "x", took, 1.1, at_least=False),
        Row("good candidate: callers who saw an error", "", tuple(float(p.failed) for p in good), 0, at_least=False),
    ]


def main() -> None:
    chosen = options("rollback_bench", __doc__, rounds=20, seconds=1)
    with tempfile.TemporaryDirectory() as folder, fresh_home() as home:
        files = versions.make(Path(folder, "files"))
        kinds = {"failing": FAILING, "dying": DYING, "good": HEALTHY}
        models = {f"{kind}-{n}": scene for kind, scene in kinds.items() for n in range(max(GOOD, chosen.rounds))}
        versions.register(home, files, {model: (scene.live, scene.candidate) for model, scene in models.items()})
        with running(home) as gateway:
            rows = measure(gateway, chosen.rounds)
    notes = [
        f"{chosen.rounds} candidates that fail one request in twenty, at 25 % of {FAILING.rate:g} requests/s, open "
        "loop, Poisson; one after the other, each a model of its own.",
        f"Killed: kill -9 of the candidate's only worker at 10 % of {DYING.rate:g} requests/s.",
    ]
    publish("rollback", "Rollouts by evidence: how soon a bad one is gone", rows, notes)


if __name__ == "__main__":
    main()
