"""Several rollouts by evidence side by side on one real gateway, each a scene: what its two versions do, who asks how
often, what goes wrong meanwhile. They are played at once, because each is mostly waiting, and judged afterwards.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtests.load import MOST_SECONDS, Load, Outcome
from loadtests.openloop import load_in_thread
from tests.e2e import versions
from tests.e2e.gateway import Gateway, call, eventually

PLAY_SECONDS = 110.0  # for every scene to end; more than any deadline of a plan here
POLL_SECONDS = 0.1
AFTER_SECONDS = 1.5

GUARDRAILS: Sequence[Mapping[str, Any]] = (
    {"watched": "errors", "share": 0.5, "objective": 0.02},
    {"watched": "batches", "share": 0.15, "required": False},
    {"watched": "latency", "share": 0.3, "floor": "250ms"},
    {"watched": "nonfinite", "share": 0.05, "required": False},
    {"watched": "predictions", "share": 1.0, "required": False},
)
"""Objectives that a few hundred requests can show to be met, and a floor above what a busy machine does to latency."""

PLAN: Mapping[str, Any] = {
    "strategy": "canary",
    "steps": [{"weight": "10 %", "dwell": "4s"}, {"weight": "50 %", "dwell": "4s"}],
    "bake": "4s",
    "deadline": "100s",
    "guardrails": GUARDRAILS,
}


def plan_text(plan: Mapping[str, Any]) -> str:
    """The plan as a file would have it: JSON is YAML."""
    return json.dumps(plan)


Fault = Callable[["Running"], None]


@dataclass(frozen=True)
class Scene:
    """One model with a live version and a candidate, each named for what it does (tests/e2e/versions.py).

    ends      states in which the scene is over
    rate      requests a second; `poisoned` of every twenty are rows that a failing version fails on
    change    what differs from PLAN
    during    what is done to the gateway meanwhile, in a thread of its own
    """

    live: str
    candidate: str
    ends: frozenset[str]
    rate: float = 60.0
    poisoned: int = 0
    change: Mapping[str, Any] = field(default_factory=dict)
    replicas: int = 1
    during: Fault | None = None

    @property
    def plan(self) -> Mapping[str, Any]:
        return {**PLAN, **self.change}


@dataclass(frozen=True)
class Running:
    """A scene under way, as its fault sees it."""

    gateway: Gateway
    model: str
    over: threading.Event

    def rollout(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.gateway.status(self.model)["rollout"] or {}
        return found

    def wait_for_step(self, step: str) -> None:
        eventually(f"{self.model} is at {step}", lambda: self.rollout().get("step") == step, 60)

    def wait_until_asked(self, version: int) -> None:
        """Callers are there, and Envoy has sent some of them to `version`."""
        told = f'model="{self.model}",version="{version}"'

        def asked() -> bool:
            counts = (line for line in self.gateway.envoy_metrics() if told in line)
            return any(float(c.split()[-1]) for c in counts if c.startswith("envoy_cluster_upstream_rq_completed"))

        eventually(f"version {version} of {self.model} was asked", asked, 60)

    def pids(self, role: str) -> list[int]:
        return [w["pid"] for w in (self.gateway.status(self.model)[role] or {}).get("workers", []) if w["pid"]]

    def kill(self, role: str) -> int:
        """kill -9 of every worker of that role; returns how many there were."""
        pids = self.pids(role)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)


@dataclass(frozen=True)
class Moment:
    """The status of one model from `at` (wall seconds) on, until the next moment."""

    at: float
    state: str
    step: str | None
    reason: str
    applied: int | None
    revision: int


@dataclass(frozen=True)
class Played:
    """What became of a scene."""

    scene: Scene
    moments: tuple[Moment, ...]
    events: tuple[Mapping[str, Any], ...]  # oldest first
    outcome: Outcome
    status: Mapping[str, Any]

    @property
    def end(self) -> Moment:
        return self.moments[-1]

    @property
    def actions(self) -> list[str]:
        return [event["action"] for event in self.events]

    @property
    def states(self) -> list[str]:
        """States in the order in which they were first seen."""
        return list(dict.fromkeys(moment.state for moment in self.moments))

    def reasons(self, state: str) -> str:
        return "\n".join(moment.reason for moment in self.moments if moment.state == state)

    def in_force(self) -> float:
        """Wall seconds at which somebody first read that the last revision is in force."""
        return next(m.at for m in self.moments if m.revision == self.end.revision == m.applied)

    def answered_by(self, version: str, since: float) -> int:
        """Requests that left after `since` (wall seconds) and were answered, well or not, by `version`."""
        began = self.outcome.began
        return sum(s.version == version and began + s.sent > since for s in self.outcome.samples)

    def failed_since(self, since: float) -> int:
        """Requests that left after `since` (wall seconds) and were not answered well."""
        return sum(not s.ok and self.outcome.began + s.sent > since for s in self.outcome.samples)

    @property
    def failed(self) -> int:
        return self.outcome.sent - self.outcome.ok

    def told(self) -> str:
        """The whole story, for whoever reads a failed test."""
        lines = [f"{m.at:.1f} {m.state} {m.step or ''}: {m.reason}" for m in self.moments]
        return "\n".join([*lines, f"{self.outcome.ok} of {self.outcome.sent}: {dict(self.outcome.failures)}"])


def play(gateway: Gateway, scenes: Mapping[str, Scene], seconds: float = PLAY_SECONDS) -> dict[str, Played]:
    """Make every candidate live or not, all at once; return what became of each within `seconds`."""
    with ThreadPoolExecutor(len(scenes) + 1) as pool:
        list(pool.map(lambda model: gateway.order("deploy", model, version=1), scenes))
        asked = {model: scene for model, scene in scenes.items() if scene.rate}
        loads = [_load(gateway, model, scene, seed) for seed, (model, scene) in enumerate(asked.items())]
        over = {model: threading.Event() for model in scenes}
        watched = pool.submit(_watch, gateway, scenes, over, seconds)
        with _faults(gateway, scenes, over):
            # Before anybody asks: candidates load at the lowest priority, so a small busy machine would take for ever.
            list(pool.map(lambda model: _deploy(gateway, model, scenes[model]), scenes))
            with load_in_thread(*loads) as outcomes:
                moments = watched.result()
                time.sleep(AFTER_SECONDS)  # part of the play: callers go on asking, so that one sees who answers then
    seen = dict(zip(asked, outcomes.result(), strict=True))
    return {
        model: Played(
            scene,
            tuple(moments[model]),
            tuple(reversed(call(f"{gateway.admin}/api/v1/models/{model}/history").json["events"])),
            seen.get(model, Outcome(())),
            gateway.status(model),
        )
        for model, scene in scenes.items()
    }


def _load(gateway: Gateway, model: str, scene: Scene, seed: int) -> Load:
    url = f"{gateway.url}/v1/models/{model}:predict"
    bodies = versions.bodies(scene.poisoned, seed=seed)
    return Load(url, scene.rate, MOST_SECONDS, bodies=bodies, poisson=True, seed=seed)


def _deploy(gateway: Gateway, model: str, scene: Scene) -> None:
    """Faults may end the candidate before the command is answered, or kill who would answer: then it is recorded."""
    body = json.dumps({"version": 2, "plan": scene.plan, "replicas": scene.replicas}).encode()
    with contextlib.suppress(ConnectionError):
        answer = call(f"{gateway.admin}/api/v1/models/{model}/deploy", body, {"content-type": "application/json"})
        assert answer.status == 200 or (answer.status == 409 and scene.during), answer.body


@contextmanager
def _faults(gateway: Gateway, scenes: Mapping[str, Scene], over: Mapping[str, threading.Event]) -> Iterator[None]:
    faulty = {model: scene.during for model, scene in scenes.items() if scene.during is not None}
    if not faulty:
        yield
        return
    with ThreadPoolExecutor(len(faulty)) as pool:
        under_way = [pool.submit(fault, Running(gateway, model, over[model])) for model, fault in faulty.items()]
        yield
        for each in under_way:
            each.result()


def _watch(
    gateway: Gateway, scenes: Mapping[str, Scene], over: Mapping[str, threading.Event], seconds: float
) -> dict[str, list[Moment]]:
    """Look at every model's status until each scene has ended, or for so many seconds, and note what changed."""
    moments: dict[str, list[Moment]] = {model: [] for model in scenes}
    deadline = time.monotonic() + seconds
    try:
        while not all(event.is_set() for event in over.values()) and time.monotonic() < deadline:
            for model, moment in _look(gateway, scenes).items():
                seen = moments[model]
                if not seen or _facts(seen[-1]) != _facts(moment):
                    seen.append(moment)
                settled = moment.state in scenes[model].ends and moment.applied == moment.revision
                if settled:
                    over[model].set()
            time.sleep(POLL_SECONDS)
    finally:
        for event in over.values():
            event.set()
    return moments


def _look(gateway: Gateway, scenes: Mapping[str, Scene]) -> dict[str, Moment]:
    try:
        models = call(f"{gateway.admin}/api/v1/status").json["models"]
    except OSError:  # the control plane was killed by a fault
        return {}
    now = time.time()
    return {
        m["model"]: Moment(
            now,
            m["rollout"]["state"],
            m["rollout"]["step"],
            m["rollout"]["reason"],
            (m["applied"] or {}).get("revision"),
            m["revision"],
        )
        for m in models
        if m["model"] in scenes and m["rollout"]
    }


def _facts(moment: Moment) -> tuple[object, ...]:
    return moment.state, moment.step, moment.reason, moment.applied, moment.revision
