"""The history is walked round after round, and what was changed in it is noticed within one."""

from collections.abc import Callable
from typing import Any

import pytest

from deploy.audit.chain import GENESIS, HASHED, linked
from deploy.audit.patrol import Patrol


class History:
    """Events in memory, chained as the store chains them."""

    def __init__(self, count: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.append(count)

    def append(self, count: int) -> None:
        for _ in range(count):
            previous = self.rows[-1]["hash"] if self.rows else GENESIS
            row: dict[str, Any] = {**dict.fromkeys(HASHED), "seq": len(self.rows) + 1, "reason": "because"}
            self.rows.append({**row, "previous_hash": previous, "hash": linked(previous, row)})
        self.latest = (self.rows[-1]["seq"], self.rows[-1]["hash"]) if self.rows else None

    def head(self) -> tuple[int, str] | None:
        return self.latest

    def events(self, since: int = 0, most: int | None = None) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["seq"] > since][:most]


def walked(patrol: Patrol, history: History, times: int) -> bool:
    for _ in range(times):
        patrol.walk(history)
    return patrol.intact


def test_a_whole_history_is_intact_however_often_it_is_walked_and_whatever_is_appended_meanwhile() -> None:
    patrol, history = Patrol(at_once=10), History(35)
    for _ in range(20):
        assert walked(patrol, history, 1)
        history.append(3)
    assert walked(Patrol(), History(0), 3)


def rewrite(history: History) -> None:
    history.rows[20]["reason"] = "another"


def rewrite_with_its_hash(history: History) -> None:
    row = history.rows[20]
    row["reason"] = "another"
    row["hash"] = linked(row["previous_hash"], row)


def remove(history: History) -> None:
    del history.rows[20]


def cut_off(history: History) -> None:
    del history.rows[-3:]


def spoil(history: History) -> None:
    history.rows[20]["previous_hash"] = "no hash"


@pytest.mark.parametrize("tamper", [rewrite, rewrite_with_its_hash, remove, cut_off, spoil])
def test_what_was_tampered_with_is_noticed_within_a_round(tamper: Callable[[History], None]) -> None:
    patrol, history = Patrol(at_once=10), History(35)
    assert walked(patrol, history, 4)
    tamper(history)
    assert not walked(patrol, history, 4)
    assert not walked(patrol, history, 9), "and stays noticed"


def test_a_history_that_was_put_right_is_intact_after_a_whole_round() -> None:
    patrol, history = Patrol(at_once=10), History(35)
    whole = [dict(row) for row in history.rows]
    rewrite(history)
    assert not walked(patrol, history, 4)
    history.rows = whole
    assert walked(patrol, history, 8)
