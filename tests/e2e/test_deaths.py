"""kill -9 of every process in turn, under an open-loop load, and what clients may notice of it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.gateway import Gateway, end_all, eventually
from tests.e2e.test_traffic import failures, served, three_hundred_a_second

pytestmark = pytest.mark.e2e


def test_one_of_two_workers_may_die_unnoticed(gateway: Gateway, images: np.ndarray) -> None:
    gateway.order("deploy", version=1, replicas=2)
    with three_hundred_a_second(gateway, images) as outcomes:
        for turn in range(3):
            eventually("Envoy has two healthy workers", lambda: gateway.healthy_workers() == 2, 5)
            victim = gateway.worker_pids()[turn % 2]
            os.kill(victim, signal.SIGKILL)
            eventually("another worker stands in", lambda gone=victim: replaced(gateway, gone), 5)
            eventually("capacity is back", lambda: gateway.healthy_workers() == 2, 5)
    assert failures(outcomes) == {}


def replaced(gateway: Gateway, gone: int) -> bool:
    ready = gateway.worker_pids()
    return len(ready) == 2 and gone not in ready


def test_the_only_worker_is_answered_for_at_once_and_comes_back(serving: Gateway, images: np.ndarray) -> None:
    body = {"instances": images[:1].tolist()}
    (pid,) = serving.worker_pids()
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    answer = serving.predict(body)
    if answer.status != 200:  # unless it was already back
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-teal-model"] == "digits"
        assert "error" in answer.json
        assert time.monotonic() - begin < 1
    eventually("the model answers again", lambda: serving.predict(body).status == 200, 5)
    assert serving.worker_pids() != [pid]


def test_the_control_plane_may_die_unnoticed_and_forgets_nothing(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    serving.order("weight", percent=37.5, reason="told before the kill")
    workers, envoy = sorted(serving.worker_pids() + serving.worker_pids("candidate")), serving.envoy_pid()
    with three_hundred_a_second(serving, images) as outcomes:
        for _ in range(2):
            time.sleep(0.5)  # let load flow before and after: this is the scenario, not a wait for an event
            serving.kill_control_plane()
            assert served(serving, images) == {"1", "2"}
            serving.start()
            after = serving.status()
            assert after["candidate"]["weight"] == 37.5
            assert sorted(serving.worker_pids() + serving.worker_pids("candidate")) == workers
            assert serving.envoy_pid() == envoy
            serving.order("weight", percent=37.51)
            serving.order("weight", percent=37.5)
    assert failures(outcomes) == {}
    reasons = [event["reason"] for event in serving.must("history", "digits")["events"]]
    assert any("told before the kill" in reason for reason in reasons)


def test_envoy_comes_back_with_the_same_weights(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    serving.order("weight", percent=50)
    pid = serving.envoy_pid()
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            return serving.predict({"instances": images[:1].tolist()}).status == 200
        except OSError:
            return False

    eventually("Envoy answers again", answers, 3)
    assert serving.envoy_pid() != pid
    assert served(serving, images) == {"1", "2"}
    serving.order("weight", percent=0)
    assert served(serving, images) == {"1"}


def test_everything_may_die_at_once_and_the_next_start_has_it_all(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    serving.order("weight", percent=12.5)
    end_all(serving)
    serving.process = None
    serving.start()
    eventually("the model answers", lambda: serving.predict({"instances": images[:1].tolist()}).status == 200, 20)
    assert serving.status()["candidate"]["weight"] == 12.5


def test_a_restart_while_a_worker_died_replaces_only_that_one(gateway: Gateway, images: np.ndarray) -> None:
    gateway.order("deploy", version=1, replicas=2)
    eventually("Envoy has two healthy workers", lambda: gateway.healthy_workers() == 2, 5)
    first, second = gateway.worker_pids()
    with three_hundred_a_second(gateway, images) as outcomes:
        gateway.kill_control_plane()
        os.kill(first, signal.SIGKILL)
        gateway.start()
        eventually("two workers are ready", lambda: len(gateway.worker_pids()) == 2, 10)
        assert second in gateway.worker_pids()
    assert failures(outcomes) == {}


@pytest.mark.parametrize("ended_with", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_gateway_drains_and_leaves_no_orphan(
    gateway: Gateway, images: np.ndarray, ended_with: signal.Signals
) -> None:
    gateway.order("deploy", version=1)
    assert gateway.stop(ended_with) == 0, gateway.log_tail()
    eventually("nothing of this home runs", lambda: not gateway.processes(), 5)


def test_killing_a_registration_leaves_no_half_version(home: Path, trained: Path) -> None:
    gateway = Gateway(home)
    before = gateway.must("models", "digits")
    command = ["register", "digits", str(trained / "dense")]
    for seconds in (0.3, 2.0, 5.0, 9.0):
        gateway.killed(command, after=seconds)
        versions = gateway.must("models", "digits")["versions"]
        for version in versions:
            whole = gateway.must("models", "digits", str(version["version"]))
            assert (home / "packages" / whole["digest"] / "manifest.json").exists()
        if len(versions) == len(before["versions"]):
            continue
    gateway.must("register", "digits", str(trained / "dense"), timeout=300)
