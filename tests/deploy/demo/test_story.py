"""The whole story against a small honest gateway: it comes to its end when every promise holds, and to no other."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import Conflict, Unavailable
from deploy.client import Client
from deploy.demo import rollouts, tour, traffic
from deploy.demo.gateway import check_port_free
from deploy.demo.models import Digits, Image, Version
from deploy.demo.story import Story
from deploy.demo.tour import DemoFailed
from tests.deploy.cli.fake_gateway import DIGESTS, FakeGateway, running_on, trial

DIGITS = Digits(Version(1, "a" * 64), Version(2, "b" * 64), Version(3, "c" * 64), [Image([0.0, 1.0], 0)])
LOOKS = 3  # at the evidence before it decides


class DecidingGateway(FakeGateway):
    """Also moves by evidence, after a few looks: version 3 fails on one request in twelve and is rolled back, others
    are promoted, unless `believes_in` says otherwise."""

    believes_in: tuple[int, ...] = (1, 2)
    _decided: dict[str, Any] | None = None
    _looks = 0

    def _command(self, verb: str, body: dict[str, Any]) -> Any:
        self._decided = None
        if verb == "deploy" and "plan" in body:
            self.trial, self.weight, self._looks = trial(), 10.0, LOOKS
        return super()._command(verb, body)

    def status(self) -> dict[str, Any]:
        if self.trial is not None and self.candidate is not None:
            self._looks -= 1
            if self._looks < 0:
                self._decide(self.candidate)
        seen = super().status()
        return {**seen, "rollout": seen["rollout"] or self._decided}

    def _decide(self, candidate: int) -> None:
        good = candidate in self.believes_in
        if good:
            self.live, self.previous = candidate, self.live
        self.candidate, self.weight, self.trial = None, 0.0, None
        facts = {"strategy": "canary", "step": None, "observed": None, "evidence": None}
        self._decided = {**facts, "state": "promoted" if good else "rolled_back", "reason": "evidence says so"}

    def _pick(self, turn: int) -> int | None:
        if self.deaf_to == "rollback" and self.commands and self.commands[-1][0] == "rollback":
            return 2  # the candidate that was given up
        return super()._pick(turn)

    def predict(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        status, headers, answer = super().predict(method, path, body)
        if headers.get("x-teal-version") == "3" and len(self.bodies) % 12 == 0:
            return 500, headers, {"error": "divided by nothing"}
        return status, headers, answer


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecidingGateway]:
    """A gateway, and a story told quickly: fewer images, as fast as they come."""
    for name in ("IMAGES_AT_FIRST", "IMAGES_PER_STEP", "IMAGES_AFTER_MOVE"):
        monkeypatch.setattr(tour, name, 60)
    monkeypatch.setattr(traffic, "RATE", 2000.0)
    monkeypatch.setattr(rollouts, "LOOK_SECONDS", 0.05)
    monkeypatch.setitem(DIGESTS, 3, "c" * 64)
    with running_on(tmp_path / "home", DecidingGateway) as up:
        assert isinstance(up, DecidingGateway)
        yield up


def tell(gateway: FakeGateway) -> int | None:
    with Client(f"http://127.0.0.1:{gateway.admin_port}") as operator:
        return tour.tour(Story(), operator, f"http://127.0.0.1:{gateway.port}", DIGITS, rollouts.PLAN)


def test_the_story_moves_by_hand_then_promotes_the_good_version_and_rolls_the_bad_one_back(
    gateway: DecidingGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(gateway) is None
    assert (gateway.live, gateway.candidate) == (2, None)
    asked = [(verb, body.get("version") or body.get("percent"), "plan" in body) for verb, body in gateway.commands]
    weights = [("weight", percent, False) for percent in tour.STEPS]
    by_hand = [("deploy", 1, False), ("deploy", 2, False), *weights, ("rollback", None, False)]
    assert asked == [*by_hand, ("deploy", 2, True), ("deploy", 3, True)]
    said = capsys.readouterr().out
    assert "all answered by version 1, 0 failed" in said
    assert "version 2 is live: evidence says so" in said
    failed = re.search(r"found out after \d+ s: (\d+) of [\d,]+ images saw an error", said)
    assert failed is not None
    assert f"0 failed but those {failed[1]}" in said


def test_the_plan_is_told_as_it_is(gateway: DecidingGateway, capsys: pytest.CaptureFixture[str]) -> None:
    tell(gateway)
    plan = rollouts.read_plan(rollouts.PLAN)
    said = capsys.readouterr().out
    assert all(f"{step.weight / 100:g} % for {step.dwell:g} s" in said for step in plan.steps)
    assert "167 to 1" in said
    assert "20 to 1" in said


def test_a_bad_version_that_is_believed_in_fails_the_demo(gateway: DecidingGateway) -> None:
    gateway.believes_in = (1, 2, 3)
    with pytest.raises(DemoFailed, match="version 3 fails and was not rolled back"):
        tell(gateway)


def test_a_good_version_that_is_rolled_back_fails_the_demo(gateway: DecidingGateway) -> None:
    gateway.believes_in = (1,)
    with pytest.raises(DemoFailed, match="version 2 is good and was not promoted"):
        tell(gateway)


def test_a_home_that_served_before_starts_from_the_beginning(gateway: DecidingGateway) -> None:
    gateway.live, gateway.candidate, gateway.weight = 2, 1, 5.0
    assert tell(gateway) == 2
    assert gateway.commands[0][0] == "drain"
    assert gateway.live == 2


def test_one_lost_image_fails_the_demo(gateway: FakeGateway) -> None:
    gateway.lose_every = 50
    with pytest.raises(DemoFailed, match="broke a promise"):
        tell(gateway)


def test_an_answer_from_the_version_before_a_rollback_fails_the_demo(gateway: FakeGateway) -> None:
    gateway.deaf_to = "rollback"
    with pytest.raises(DemoFailed, match="after the rollback version"):
        tell(gateway)


def test_a_split_that_is_not_what_was_set_fails_the_demo(gateway: FakeGateway) -> None:
    gateway.deaf_to = "weight"
    with pytest.raises(DemoFailed, match="the split is not what was set"):
        tell(gateway)


def test_a_port_in_use_is_named_with_its_option_before_anything_is_trained(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"{port}.*--port"):
            check_port_free("127.0.0.1", port, "--port")
        with pytest.raises(Unavailable, match=str(port)):
            tour.run(tmp_path / "home", port, port + 1, leave=True)


def test_a_home_with_a_running_gateway_is_left_alone(tmp_path: Path, gateway: FakeGateway) -> None:
    with pytest.raises(Conflict, match="already runs"):
        tour.run(tmp_path / "home", 1, 2, leave=True)
