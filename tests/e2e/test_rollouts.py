"""Rollouts by evidence with the real Envoy and real workers: what must happen to good, bad, slow, dying and sick
versions while people keep asking, and what must not. The scenes are played at once; every test judges one of them."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from loadtests.load import MOST_SECONDS, Load
from loadtests.openloop import load_in_thread
from tests.e2e import versions
from tests.e2e.gateway import Gateway, eventually, running
from tests.e2e.noticing import most_who_notice
from tests.e2e.resetting import resetting, socket_of
from tests.e2e.stage import Played, Running, Scene, play

pytestmark = pytest.mark.e2e

ROLLED_BACK, PROMOTED, HELD = frozenset({"rolled_back"}), frozenset({"promoted"}), frozenset({"hold"})
INCONCLUSIVE = frozenset({"inconclusive"})


def dies_once(scene: Running) -> None:
    scene.wait_for_step("10 %")
    scene.wait_until_asked(2)
    scene.kill("candidate")


def keeps_dying(scene: Running) -> None:
    scene.wait_for_step("10 %")
    scene.wait_until_asked(2)
    while not scene.over.wait(0.05):
        scene.kill("candidate")


def live_keeps_dying(scene: Running) -> None:
    scene.wait_for_step("50 %")
    scene.wait_until_asked(2)
    until = time.monotonic() + 5
    while time.monotonic() < until and not scene.over.wait(0.05):
        scene.kill("live")


def all_fails_for_a_while(scene: Running) -> None:
    """Something that both versions need is down: one in four requests fails, whoever gets it."""
    scene.wait_for_step("50 %")
    scene.wait_until_asked(2)
    url = f"{scene.gateway.url}/v1/models/{scene.model}:predict"
    with load_in_thread(Load(url, 20, MOST_SECONDS, bodies=versions.bodies(1, of=1))) as outcomes:
        eventually("the rollout stands still", lambda: scene.rollout()["state"] == "hold", 60)
    assert not outcomes.result()[0].ok


def resets(scene: Running) -> None:
    """One of the candidate's two workers loses four of five first attempts; the other one answers the second."""
    eventually("the candidate's workers start", lambda: len(scene.pids("candidate")) == 2, 30, pause=0.01)
    with resetting(socket_of(scene.pids("candidate")[0])):
        scene.over.wait(MOST_SECONDS)


def killed_in_every_step(scene: Running) -> None:
    for step in ("10 %", "50 %", "95 %"):
        scene.wait_for_step(step)
        scene.gateway.kill_control_plane()
        scene.gateway.start()


def one_step(weight: str) -> Mapping[str, object]:
    """Long enough that whatever is to be found is found in it."""
    return {"steps": [{"weight": weight, "dwell": "90s"}], "deadline": "100s"}


FAILING = Scene("healthy", "failing", ROLLED_BACK, rate=80, poisoned=1, change=one_step("25 %"))
SCENES: Mapping[str, Scene] = {
    "good": Scene("healthy", "healthy_too", PROMOTED),
    "failing": FAILING,
    "nan": Scene("healthy", "nan", ROLLED_BACK, rate=30, change=one_step("25 %")),
    "constant": Scene("healthy", "constant", HELD, rate=30, change=one_step("25 %")),
    "dying": Scene("healthy", "healthy_too", ROLLED_BACK, rate=100, during=dies_once),
    "dying_again": Scene("healthy", "healthy_too", ROLLED_BACK, rate=100, during=keeps_dying),
    "live_dying": Scene(
        "healthy",
        "healthy_too",
        PROMOTED,
        change={"steps": [{"weight": "50 %", "dwell": "10s"}]},
        during=live_keeps_dying,
    ),
    "live_failing": Scene("failing", "healthy", INCONCLUSIVE, poisoned=4, change={"deadline": "20s"}),
    "both_failing": Scene(
        "failing",
        "failing_too",
        PROMOTED | INCONCLUSIVE,
        change={"steps": [{"weight": "50 %", "dwell": "10s"}], "deadline": "40s"},
        during=all_fails_for_a_while,
    ),
    "silent": Scene("healthy", "healthy_too", INCONCLUSIVE, rate=0, change={"deadline": "20s"}),
    "seldom": Scene("healthy", "healthy_too", INCONCLUSIVE, rate=1 / 15, change={"deadline": "20s"}),
    "saved": Scene("healthy", "healthy_too", ROLLED_BACK, replicas=2, change=one_step("50 %"), during=resets),
}
SLOWER = Scene(
    "steady",
    "slower",
    ROLLED_BACK,
    rate=25,
    change={**one_step("50 %"), "guardrails": [{"watched": "latency", "share": 1, "floor": "1ms"}]},
)
LATER: Mapping[str, Scene] = {
    "interrupted": replace(SCENES["good"], during=killed_in_every_step),
    "interrupted_bad": FAILING,
    "slower": SLOWER,
}
"""Played when the others are over: the control plane is killed again and again, and slowness needs an idle machine."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    files = versions.make(tmp_path_factory.mktemp("versions") / "files")
    home = tmp_path_factory.mktemp("rollouts") / "home"
    scenes = {**SCENES, **LATER}
    versions.register(home, files, {model: (scene.live, scene.candidate) for model, scene in scenes.items()})
    with running(home) as up:
        yield up


@pytest.fixture(scope="module")
def played(gateway: Gateway) -> dict[str, Played]:
    return play(gateway, SCENES)


@pytest.fixture(scope="module")
def later(gateway: Gateway, played: dict[str, Played]) -> dict[str, Played]:
    assert played
    return play(gateway, LATER)


def test_a_healthy_candidate_is_promoted_step_by_step_and_fails_nobody(played: dict[str, Played]) -> None:
    good = played["good"]
    assert good.actions[-4:] == ["start", "advance", "cutover", "promote"], good.told()
    assert good.status["live"]["version"] == 2
    assert good.failed == 0, good.told()


def test_a_candidate_that_fails_one_in_twenty_is_rolled_back_before_many_noticed(played: dict[str, Played]) -> None:
    failing = played["failing"]
    assert "errors of the candidate are worse" in failing.end.reason, failing.told()
    assert (failing.status["live"]["version"], failing.status["live"]["weight"]) == (1, 100)
    assert failing.answered_by("2", since=failing.in_force()) == 0, failing.told()
    assert set(failing.outcome.failures) == {"status 500"}
    assert failing.failed <= most_who_notice(FAILING, failing=0.05), failing.told()


def test_a_candidate_that_predicts_no_number_is_rolled_back_for_that(played: dict[str, Played]) -> None:
    assert "predicts what is no number" in played["nan"].end.reason, played["nan"].told()


def test_a_candidate_that_always_predicts_the_same_class_is_held_for_that(played: dict[str, Played]) -> None:
    constant = played["constant"]
    assert "predictions differ" in constant.end.reason, constant.told()
    assert constant.status["candidate"]["weight"] == 25


@pytest.mark.parametrize("model", ["dying", "dying_again"])
def test_when_the_candidates_process_dies_hardly_anybody_notices_and_it_is_rolled_back(
    played: dict[str, Played], model: str
) -> None:
    dying = played[model]
    assert any(said in dying.end.reason for said in ("no ready worker", "only worker died")), dying.told()
    assert dying.outcome.ok >= 0.99 * dying.outcome.sent, dying.told()  # how many exactly: loadtests/rollback_bench.py
    assert dying.failed_since(dying.in_force()) == 0, dying.told()


def test_when_the_live_version_dies_nothing_moves_until_it_is_back(played: dict[str, Played]) -> None:
    dying = played["live_dying"]
    assert "the live version has no ready worker" in dying.reasons("hold"), dying.told()
    assert dying.actions[-4:-2] == ["hold", "go on"], dying.told()


def test_when_the_live_version_fails_a_healthy_candidate_is_not_promoted_by_itself(played: dict[str, Played]) -> None:
    failing = played["live_failing"]
    assert "the live version fails" in failing.end.reason, failing.told()
    assert {"cutover", "promote", "rollback"}.isdisjoint(failing.actions), failing.told()


def test_when_both_fail_together_nobody_is_rolled_back(played: dict[str, Played]) -> None:
    both = played["both_failing"]
    assert "both versions fail" in both.reasons("hold"), both.told()
    assert "rollback" not in both.actions, both.told()


@pytest.mark.parametrize(("model", "answered"), [("silent", 0), ("seldom", 1)])
def test_without_enough_traffic_a_rollout_waits_says_why_and_asks_an_operator(
    played: dict[str, Played], model: str, answered: int
) -> None:
    quiet = played[model]
    assert "of 20 requests" in quiet.reasons("canary"), quiet.told()
    assert "of 20 requests" in quiet.end.reason, quiet.told()
    assert "an operator decides" in quiet.end.reason, quiet.told()
    assert quiet.status["candidate"]["weight"] == 10
    assert quiet.outcome.sent >= answered


def test_a_candidate_whose_failures_are_hidden_by_second_attempts_is_rolled_back(played: dict[str, Played]) -> None:
    saved = played["saved"]
    assert "errors of the candidate are worse" in saved.end.reason, saved.told()
    assert saved.outcome.ok >= 0.99 * saved.outcome.sent, saved.told()


def test_a_candidate_half_again_as_slow_is_rolled_back(later: dict[str, Played]) -> None:
    slower = later["slower"]
    assert "latency of the candidate is worse" in slower.end.reason, slower.told()
    assert slower.failed == 0, slower.told()


def test_a_control_plane_that_is_killed_in_every_step_comes_to_the_same_ends(
    played: dict[str, Played], later: dict[str, Played]
) -> None:
    good, failing = later["interrupted"], later["interrupted_bad"]
    assert good.actions == played["good"].actions, good.told()
    assert good.failed == 0, good.told()
    assert "errors of the candidate are worse" in failing.end.reason, failing.told()
