"""What commands do with a running gateway: what they ask for, what they print, and how they end."""

import re

import pytest

from tests.deploy.cli.conftest import Teal
from tests.deploy.cli.fake_gateway import FakeGateway

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def test_the_first_version_goes_live_and_the_second_waits(teal: Teal, gateway: FakeGateway) -> None:
    first = teal("deploy", "digits", "1")
    assert (first.code, first.err) == (0, "")
    assert "version 1 (blue) is live" in first.out
    second = teal("deploy", "digits", "2")
    assert second.code == 0
    assert "teal weight digits 10" in second.out
    assert "teal promote digits" in second.out


def test_a_command_says_who_gave_it_and_why(teal: Teal, gateway: FakeGateway) -> None:
    teal("deploy", "digits", "1", "--reason", "first try", "--replicas", "2", "--strategy", "direct")
    verb, body = gateway.commands[-1]
    assert verb == "deploy"
    assert body.pop("actor")
    assert body == {"version": 1, "reason": "first try", "replicas": 2, "strategy": "direct"}


def test_what_was_not_said_is_left_to_the_control_plane(teal: Teal, gateway: FakeGateway) -> None:
    teal("deploy", "digits")
    assert set(gateway.commands[-1][1]) == {"actor"}


def test_waiting_returns_when_every_replica_is_ready(teal: Teal, gateway: FakeGateway) -> None:
    assert teal("deploy", "digits", "1", "--wait").code == 0


@pytest.mark.parametrize(("text", "units"), [("25", 25.0), ("0.01", 0.01), ("12.5%", 12.5), ("0", 0.0)])
def test_weights_go_as_numbers(teal: Teal, gateway: FakeGateway, text: str, units: float) -> None:
    gateway.live, gateway.candidate = 1, 2
    ran = teal("weight", "digits", text, "--json")
    assert ran.json["candidate"]["weight"] == units


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["weight", "digits", "25"], 2, "no candidate"),
        (["weight", "digits", "101"], 2, "101"),
        (["weight", "digits", "-1"], 2, "-1"),
        (["weight", "digits", "abc"], 2, "abc"),
        (["weight", "digits", "nan"], 2, "nan"),
        (["weight", "digits", "0.001"], 2, "0.01"),
        (["weight", "digits", "25", "--bogus"], 2, "--bogus"),
        (["weight", "digits"], 2, "PERCENT"),
        (["promote", "digits"], 2, "no candidate"),
        (["rollback", "digits"], 2, "nothing to go back to"),
        (["pause", "digits"], 2, "moved by hand"),
        (["resume", "digits"], 2, "moved by hand"),
        (["deploy", "digits", "7"], 1, "1, 2"),
        (["deploy", "digits", "one"], 2, "VERSION"),
        (["deploy", "digits", "--strategy", "hope"], 2, "manual"),
        (["deploy", "digits", "--replicas", "0"], 2, "--replicas"),
        (["deploy", "cats"], 1, "cats"),
        (["status", "cats"], 1, "cats"),
        (["history", "cats"], 1, "cats"),
        (["models", "digits", "9"], 1, "1, 2"),
        (["models", "digits", "0"], 2, "version 0"),
        (["delete", "digits", "9"], 1, "1, 2"),
        (["delete", "digits"], 2, "VERSION"),
        (["launch"], 2, "launch"),
        (["predict", "digits"], 2, "--data"),
        (["predict", "digits", "--data", "{"], 2, "JSON"),
        (["predict", "digits", "--file", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        (["predict", "../etc", "--data", "1"], 2, "model name"),
        (["predict", "digits", "--data", "[[1,2]]"], 1, "not served"),
        (["up", "--port", "70000"], 2, "--port"),
        (["up", "--port", "8080", "--admin-port", "8080"], 2, "8080"),
    ],
)
def test_every_refusal_is_one_sentence_and_a_known_exit_code(
    teal: Teal, gateway: FakeGateway, words: list[str], code: int, says: str
) -> None:
    ran = teal(*words)
    assert ran.code == code, ran
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_with_json_a_refusal_is_json_too(teal: Teal, gateway: FakeGateway) -> None:
    ran = teal("promote", "digits", "--json")
    assert ran.code == 2
    assert ran.json["code"] == "conflict"
    assert "no candidate" in ran.json["error"]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["models"], {"models"}),
        (["models", "digits"], {"model", "versions"}),
        (["models", "digits", "1"], {"model", "version", "digest", "plan", "role", "manifest", "lineage"}),
        (["status"], {"gateway", "models"}),
        (["status", "digits"], {"model", "live", "candidate", "rollout", "applied", "revision", "previous"}),
        (["history", "digits"], {"model", "events"}),
        (["weight", "digits", "25"], {"model", "live", "candidate", "rollout"}),
        (["promote", "digits"], {"model", "live", "candidate", "rollout"}),
        (["rollback", "digits"], {"model", "live", "candidate", "rollout"}),
        (["abort", "digits"], {"model", "live", "candidate", "rollout"}),
        (["drain", "digits"], {"model", "live", "candidate", "rollout"}),
        (["predict", "digits", "--data", "[[1, 2]]"], {"model", "version", "color", "request_id", "predictions"}),
    ],
)
def test_json_has_its_keys(teal: Teal, gateway: FakeGateway, words: list[str], keys: set[str]) -> None:
    gateway.live, gateway.candidate = 1, 2
    ran = teal(*words, "--json")
    assert ran.code == 0, ran.err
    assert keys <= set(ran.json)


def test_a_version_that_is_not_deployed_can_be_deleted(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    assert teal("delete", "digits", "2", "--json").json == {"model": "digits", "version": 2, "deleted": True}
    assert teal("delete", "digits", "1").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "digits"],
        ["models"],
        ["models", "digits"],
        ["models", "digits", "1"],
        ["history", "digits"],
    ],
)
def test_what_is_piped_holds_no_control_characters_and_no_folded_lines(
    teal: Teal, gateway: FakeGateway, words: list[str]
) -> None:
    gateway.live, gateway.candidate = 1, 2
    ran = teal(*words)
    assert ran.code == 0, ran.err
    assert not CONTROL.search(ran.out)
    assert "digits" in ran.out or "ada" in ran.out


def test_status_shows_who_stands_where_and_why(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live, gateway.candidate, gateway.weight = 1, 2, 25.0
    out = teal("status", "digits").out
    live, candidate = (next(line for line in out.splitlines() if role in line) for role in ("live", "candidate"))
    assert live.split()[:4] == ["live", "1", "blue", "75"]
    assert candidate.split()[:4] == ["candidate", "2", "green", "25"]
    assert "1 of 1 ready" in live
    assert "waiting for an operator" in out


def test_the_report_of_a_version_names_plans_speed_error_and_lineage(teal: Teal, gateway: FakeGateway) -> None:
    out = teal("models", "digits", "1").out
    for words in ("litert", "chosen", "2.1 µs", "260 µs", "1.2e-07", "handwritten digits", "float32 [?, 2]"):
        assert words in out


def test_a_server_can_be_named_instead_of_a_home(teal: Teal, gateway: FakeGateway) -> None:
    gateway.live = 1
    ran = teal("status", "digits", "--server", f"http://127.0.0.1:{gateway.admin_port}", "--json")
    assert ran.json["live"]["version"] == 1


def test_nobody_at_the_named_server_is_said(teal: Teal) -> None:
    ran = teal("status", "--server", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "http://127.0.0.1:9" in ran.err
    assert "teal up" in ran.err
