"""The contract of the fleet's ledger, held by the store and by its fake alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.fleet.ledger import ProcessKind, ProcessLedger, ProcessRecord
from deploy.store.database import sqlite_url
from deploy.store.store import Store
from tests.fakes.ledger import FakeLedger

WORKER = ProcessRecord("m-1-blue-0", ProcessKind.WORKER, "m", 1, "blue", 0, 17, 4711, "/run/w.sock", '{"a": 1}', 2.5)
ENVOY = ProcessRecord("envoy", ProcessKind.ENVOY, "", 0, "", 0, None, None, "", "{}", 1.0)

Open = Callable[[], ProcessLedger]


@pytest.fixture(params=["store", "fake"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same ledger each time, as the next control plane would."""
    if request.param == "store":
        return lambda: Store(sqlite_url(tmp_path / "state.db"))
    return lambda: FakeLedger(tmp_path / "ledger.json")


def test_records_are_found_again_ordered_by_id(open_ledger: Open) -> None:
    first = open_ledger()
    first.save_process(WORKER)
    first.save_process(ENVOY)
    assert list(open_ledger().processes()) == [ENVOY, WORKER]


def test_a_record_with_the_same_id_is_replaced(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.save_process(ENVOY)
    ledger.save_process(replace(ENVOY, pid=5, start_ticks=6))
    assert [r.pid for r in open_ledger().processes()] == [5]


def test_forgetting_is_final_and_forgetting_nobody_is_fine(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.save_process(WORKER)
    ledger.forget_process("nobody")
    ledger.forget_process(WORKER.id)
    assert list(open_ledger().processes()) == []
