"""Rollouts by evidence from the command line: plans, the commands on the way, and what status makes of evidence."""

import io
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from deploy.cli import reports, words
from deploy.cli.main import main
from deploy.rollout.plan import BLUEGREEN, CANARY, SHADOW, Plan
from deploy.rollout.plan_file import parse_plan, plan_to_json
from tests.deploy.cli.conftest import Teal
from tests.deploy.cli.fake_gateway import FakeGateway, forecast, trial

QUICK = "strategy: canary\ndeadline: 1h\nsteps:\n  - {weight: 5 %, dwell: 1m}\n  - {weight: 50 %, dwell: 2m}\n"


@pytest.fixture
def quick(tmp_path: Path) -> str:
    file = tmp_path / "quick.yaml"
    file.write_text(QUICK, encoding="utf-8")
    return str(file)


@pytest.fixture
def under_way(gateway: FakeGateway) -> FakeGateway:
    gateway.live, gateway.candidate, gateway.weight, gateway.trial = 1, 2, 10.0, trial()
    return gateway


def test_a_plan_goes_along_whole_and_its_warning_comes_back(teal: Teal, gateway: FakeGateway, quick: str) -> None:
    gateway.live, gateway.warning, gateway.trial = 1, "at 1 requests a second this plan would decide never", trial()
    ran = teal("deploy", "digits", "2", "--plan", quick, "--retry", "--supersede", "--revision", "3")
    assert ran.code == 0, ran.err
    assert "but: at 1 requests a second" in ran.out
    assert "teal status digits --watch" in ran.out
    _, body = gateway.commands[-1]
    assert body["plan"] == plan_to_json(parse_plan(QUICK))
    assert (body["retry"], body["supersede"], body["expected_revision"]) == (True, True, 3)
    assert "override" not in body


@pytest.mark.parametrize("strategy", ["manual", "direct", "canary", "bluegreen", "shadow"])
def test_every_strategy_can_be_named(teal: Teal, gateway: FakeGateway, strategy: str) -> None:
    assert teal("deploy", "digits", "1", "--strategy", strategy).code == 0
    assert gateway.commands[-1][1]["strategy"] == strategy


def test_a_mistake_in_a_plan_is_told_with_its_line_before_anything_is_asked(
    teal: Teal, gateway: FakeGateway, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("strategy: canary\nsteps:\n  - {weight: 150 %, dwell: 2m}\n", encoding="utf-8")
    for typed in (["deploy", "digits", "2", "--plan", str(wrong)], ["plan", "check", str(wrong)]):
        ran = teal(*typed)
        assert ran.code == 2
        assert "wrong.yaml line 3: weight 150 % is out of range" in ran.err
    assert not gateway.commands


@pytest.mark.parametrize(
    ("typed", "verb", "said"),
    [
        (["skip", "digits"], "skip", {}),
        (["skip", "digits", "--override", "--reason", "sure"], "skip", {"override": True, "reason": "sure"}),
        (["extend", "digits", "2h"], "extend", {"seconds": 7200.0}),
        (["extend", "digits", "90"], "extend", {"seconds": 90.0}),
        (["promote", "digits", "--override", "--revision", "7"], "promote", {"override": True, "expected_revision": 7}),
        (["weight", "digits", "20", "--override"], "weight", {"percent": 20.0, "override": True}),
        (["pause", "digits"], "pause", {}),
        (["resume", "digits", "--revision", "0"], "resume", {"expected_revision": 0}),
        (["resume", "digits", "--override"], "resume", {"override": True}),
    ],
)
def test_commands_on_the_way_say_what_was_typed(
    teal: Teal, under_way: FakeGateway, typed: list[str], verb: str, said: dict[str, object]
) -> None:
    ran = teal(*typed)
    assert ran.code == 0, ran.err
    asked, body = under_way.commands[-1]
    body.pop("actor")
    assert (asked, body) == (verb, said)


@pytest.mark.parametrize("time", ["soon", "-5", "", "1 fortnight"])
def test_more_time_than_can_be_understood_is_refused(teal: Teal, under_way: FakeGateway, time: str) -> None:
    ran = teal("extend", "digits", "--", time)
    assert ran.code == 2
    assert not under_way.commands


@pytest.mark.parametrize("plan", [CANARY, BLUEGREEN, SHADOW], ids=lambda plan: plan.strategy)
def test_a_default_plan_is_shown_as_a_file_that_reads_as_itself(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "show", plan.strategy]) == 0
    assert parse_plan(capsys.readouterr().out) == plan


def teal_plan(teal: Teal, *typed: str) -> str:
    ran = teal("plan", *typed)
    assert ran.code == 0, ran.err
    return ran.out


def test_a_strategy_without_a_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "show", "manual"]) == 2
    assert "needs no plan" in capsys.readouterr().err


def test_a_plan_is_checked_without_a_gateway(teal: Teal, quick: str) -> None:
    assert "5 % for 60 s" in teal_plan(teal, "check", quick)
    busy = teal_plan(teal, "check", quick, "--requests-per-second", "40", "--failing", "0.001")
    assert "no worse: promoted in about" in busy
    assert "nothing fails today" in teal_plan(teal, "check", quick, "--requests-per-second", "40")
    quiet = teal("plan", "check", quick, "--requests-per-second", "1", "--json")
    assert quiet.code == 2
    assert quiet.json["problem"] in quiet.err
    assert "deadline: " in quiet.json["problem"]


def test_a_plan_is_checked_with_the_traffic_of_a_model(teal: Teal, gateway: FakeGateway, quick: str) -> None:
    assert "118 requests a second" in teal_plan(teal, "check", quick, "digits")
    assert gateway.commands[-1] == ("forecast", {"plan": plan_to_json(parse_plan(QUICK))})
    gateway.forecast = forecast(problem="there is no traffic")
    ran = teal("plan", "check", quick, "digits")
    assert ran.code == 2
    assert ran.err == "error: there is no traffic\n"


def test_status_shows_the_way_the_evidence_beside_its_thresholds_and_the_time_to_decide(
    teal: Teal, under_way: FakeGateway
) -> None:
    out = teal("status", "digits").out
    candidate = next(line for line in out.splitlines() if "candidate" in line)
    assert candidate.split()[:8] == ["candidate", "2", "green", "10", "%", "10", "%", "10.2"]
    assert "version 2: at 10 % for 81 of 120 s" in out
    assert "step 3 of 5 at 10 %: 81 s of 2 min; decided in about 8.7 min if it is no worse" in out
    errors = next(line for line in out.splitlines() if line.startswith("  errors "))
    assert errors.split() == ["errors", "0.4", "of", "200", "13", "of", "20", "0.9", "(0.4", "to", "2.1)"]
    assert "one that fails twice as often is found in about 3.2 min" in out
    assert "errors: 2 of 1204 against 20 of 10800" in out


def test_a_time_that_is_not_known_is_said_to_be_unknown(teal: Teal, under_way: FakeGateway) -> None:
    under_way.trial = trial(eta=None, twice=None)
    assert "how long it takes is not known yet" in teal("status", "digits").out


@pytest.mark.parametrize(
    ("state", "command"),
    [("paused", "teal resume digits"), ("inconclusive", "teal extend digits 1h"), ("hold", "teal rollback digits")],
)
def test_a_rollout_that_stands_still_is_shown_with_what_can_be_done(
    teal: Teal, under_way: FakeGateway, state: str, command: str
) -> None:
    under_way.trial = trial(state, twice=None, unseen=75.0)
    out = teal("status", "digits").out
    assert command in out
    assert "an operator decides after 2 h; newest evidence 75 s old" in out
    assert "decided in about" not in out


def terminal(width: int, parts: Iterable[RenderableType]) -> str:
    """What a terminal of this width shows, without colors."""
    screen = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with screen.capture() as written:
        for part in parts:
            screen.print(part)
    return written.get()


@pytest.mark.parametrize("width", [60, 300])
def test_the_reason_of_an_automatic_move_is_never_squeezed_into_a_column(width: int) -> None:
    why = "version 2: no harm at 10 % in 1204 requests; on to 25 %, which is the fourth of its five steps"
    event = {"at": 1.0, "actor": "teal", "action": "advance", "version": 2, "reason": why}
    told = terminal(width, reports.history({"model": "digits", "events": [event]})).splitlines()  # type: ignore[list-item]
    if width == 300:
        assert why in told[1]
    else:
        assert told[0].endswith("teal: advance, version 2")
        assert " ".join(line.strip() for line in told[1:]) == why


@pytest.mark.parametrize("width", [50, 64, 80, 120])
def test_no_column_of_a_status_is_folded_however_narrow_the_terminal(gateway: FakeGateway, width: int) -> None:
    gateway.live, gateway.candidate, gateway.trial = 1, 2, trial()
    text = terminal(width, words.model_status(gateway.status()))  # type: ignore[arg-type]
    for row in ("  live ", "  candidate ", "  errors ", "  batches "):
        (line,) = [line for line in text.splitlines() if line.startswith(row)]
        assert line.split()[1]
    assert max(map(len, text.splitlines())) <= width
