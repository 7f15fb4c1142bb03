"""The whole story against a small honest gateway: it comes to its end when every promise holds, and to no other."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import Conflict, Unavailable
from deploy.client import Client
from deploy.demo import tour, traffic
from deploy.demo.gateway import check_port_free
from deploy.demo.models import Digits, Image, Version
from deploy.demo.story import Story
from deploy.demo.tour import DemoFailed
from tests.deploy.cli.fake_gateway import FakeGateway, running_on

DIGITS = Digits(Version(1, "a" * 64), Version(2, "b" * 64), [Image([0.0, 1.0], 0), Image([1.0, 1.0], 0)])


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """A gateway, and a story told quickly: fewer images, as fast as they come."""
    for name in ("IMAGES_AT_FIRST", "IMAGES_PER_STEP", "IMAGES_AFTER_MOVE"):
        monkeypatch.setattr(tour, name, 60)
    monkeypatch.setattr(traffic, "RATE", 2000.0)
    with running_on(tmp_path / "home") as up:
        yield up


def tell(gateway: FakeGateway) -> int | None:
    with Client(f"http://127.0.0.1:{gateway.admin_port}") as operator:
        return tour.tour(Story(), operator, f"http://127.0.0.1:{gateway.port}", DIGITS)


def test_the_story_ends_with_version_1_live_and_version_2_warm(
    gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(gateway) is None
    assert (gateway.live, gateway.candidate, gateway.previous) == (1, None, 2)
    asked = [(verb, body.get("percent")) for verb, body in gateway.commands]
    weights = [("weight", percent) for percent in tour.STEPS]
    assert asked == [("deploy", None), ("deploy", None), *weights, ("promote", None), ("rollback", None)]
    said = capsys.readouterr().out
    assert re.search(r"([\d,]+) images asked, \1 answered, 0 failed", said)
    assert "all answered by version 1, 0 failed" in said


def test_a_home_that_served_before_starts_from_the_beginning(gateway: FakeGateway) -> None:
    gateway.live, gateway.candidate, gateway.weight = 2, 1, 5.0
    assert tell(gateway) == 2
    assert gateway.commands[0][0] == "drain"
    assert gateway.live == 1


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
