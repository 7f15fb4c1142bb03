"""`teal audit verify` says whether the record of a home is whole, with no gateway running."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from deploy.cli.main import main
from deploy.rollout.deployment import State
from tests.deploy.audit.story import begin, until
from tests.deploy.plane import plane


@pytest.fixture
def home(tmp_path: Path) -> Path:
    async def story() -> None:
        async with plane(tmp_path) as p:
            await begin(p)
            await until(p, State.ROLLED_BACK, failing=0.3)

    asyncio.run(story())
    return tmp_path


def test_a_whole_record_shows_what_was_decided_and_a_line_to_note(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "rollback" in said
    assert "4 to 5" in said
    assert "7 events, the chain is unbroken; automatic decisions made again: 3, from observations: " in said
    head = said.splitlines()[-1].removeprefix("head ")
    assert main(["audit", "verify", "m", "--home", str(home), "--head", head, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], f"{found['head']['seq']}:{found['head']['hash']}") == (True, head)
    rollback = found["decisions"][-1]
    errors = rollback["guardrails"][0]
    assert errors["harm"] > errors["harm_threshold"]
    assert (rollback["before"]["revision"], rollback["after"]) == (4, {"revision": 5, "state": "rolled_back"})


def test_a_changed_record_fails_with_the_number_of_the_event(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(home / "state.db") as raw:
        raw.execute("UPDATE events SET actor = 'nobody' WHERE seq = 5")
    raw.close()
    assert main(["audit", "verify", "--home", str(home)]) == 1
    assert "WRONG event 5 (m): its content is not what was recorded" in capsys.readouterr().out
    assert main(["audit", "verify", "--home", str(home), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["wrong"][0]["seq"] == 5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--home", "nowhere"], 1, "there is no home at nowhere"),
        (["other"], 1, "no model 'other'"),
        (["--head", "7"], 2, "expected SEQ:HASH"),
    ],
)
def test_what_cannot_be_checked_is_said_in_a_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    where = [] if "--home" in words else ["--home", str(home)]
    assert main(["audit", "verify", *words, *where]) == code
    assert said in capsys.readouterr().err
