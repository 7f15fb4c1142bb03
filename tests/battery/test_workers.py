"""Rows D1, D2, D4, D6-D10: what happens to a worker, and that its callers hardly notice."""

import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.load import Load
from loadtests.openloop import load_in_thread
from tests.battery import models
from tests.battery.vitals import Watch, canary
from tests.e2e.gateway import Gateway, eventually, running

pytestmark = pytest.mark.e2e

BODY = json.dumps({"instances": models.rows(3).tolist()}).encode()
RATE = 200


@pytest.fixture(scope="module")
def shared(battery_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers of `quick` instead of one."""
    home = Path(shutil.copytree(battery_home, tmp_path_factory.mktemp("workers") / "home"))
    with running(home) as up:
        up.order("deploy", model="quick", version=1, replicas=2)
        eventually("Envoy has both workers", lambda: up.healthy_workers(1, "quick") == 2, 10)
        yield up


def load(gateway: Gateway, model: str = "quick", rate: float = RATE) -> Load:
    return Load(f"{gateway.url}/v1/models/{model}:predict", rate, 120, body=BODY, timeout=20)


def both_back(gateway: Gateway, gone: int | None = None) -> bool:
    ready = gateway.worker_pids(model="quick")
    return len(ready) == 2 and gone not in ready and gateway.healthy_workers(1, "quick") == 2


def test_d1_one_of_two_workers_is_killed_under_load_and_no_caller_notices(watch: Watch) -> None:
    watch.deaths = True
    with load_in_thread(load(watch.gateway)) as outcomes:
        victim = watch.gateway.worker_pids(model="quick")[0]
        os.kill(victim, signal.SIGKILL)
        eventually("capacity is back", lambda: both_back(watch.gateway, victim), 5)
    (outcome,) = outcomes.result()
    assert outcome.failures == {}


def test_d2_all_workers_are_killed_and_callers_are_told_at_once_when_to_come_back(watch: Watch) -> None:
    watch.deaths, watch.within = True, 10
    victims = watch.gateway.worker_pids(model="quick")
    with load_in_thread(load(watch.gateway)) as outcomes:
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        eventually("both are back", lambda: both_back(watch.gateway, victims[0]), 10)
    (outcome,) = outcomes.result()
    assert set(outcome.failures) <= {"status 503"}
    assert outcome.ok > 0


def test_d6_a_stopped_worker_is_routed_around_and_its_late_answers_reach_nobody(watch: Watch) -> None:
    """SIGSTOP: the process is there and does nothing. Judged by answers, never by its pid."""
    watch.deaths = True
    gateway = watch.gateway
    victim = gateway.worker_pids(model="quick")[0]
    with load_in_thread(load(gateway)) as outcomes:
        os.kill(victim, signal.SIGSTOP)
        try:
            eventually("Envoy routes around it", lambda: gateway.healthy_workers(1, "quick") == 1, 5)
            eventually("the fleet calls it not ready", lambda: victim not in gateway.worker_pids(model="quick"), 5)
            assert [canary(gateway, "quick") for _ in range(50)] == [True] * 50
        finally:
            os.kill(victim, signal.SIGCONT)
        eventually("it serves again", lambda: both_back(gateway), 10)
    (outcome,) = outcomes.result()
    assert set(outcome.failures) <= {"status 504", "timeout", "status 503"}, outcome.failures
    # What was under way in it, and what came before it was noticed: half of a few seconds' requests at most.
    assert outcome.sent - outcome.ok < 4 * RATE


def test_d6_a_worker_that_stays_stopped_is_replaced(watch: Watch) -> None:
    watch.deaths, watch.within = True, 60
    victim = watch.gateway.worker_pids(model="quick")[0]
    os.kill(victim, signal.SIGSTOP)
    eventually("another one stands in", lambda: both_back(watch.gateway, victim), 60)
    assert not Path(f"/proc/{victim}").exists()


def test_d7_a_worker_told_to_stop_under_load_fails_nobody(watch: Watch) -> None:
    watch.deaths, watch.within = True, 15
    victim = watch.gateway.worker_pids(model="quick")[0]
    with load_in_thread(load(watch.gateway)) as outcomes:
        os.kill(victim, signal.SIGTERM)
        eventually("it has ended", lambda: not Path(f"/proc/{victim}").exists(), 40)
        eventually("another one stands in", lambda: both_back(watch.gateway, victim), 15)
    (outcome,) = outcomes.result()
    assert outcome.failures == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_d8_told_twice_it_hurries_and_is_replaced(watch: Watch, number: signal.Signals) -> None:
    watch.deaths, watch.within = True, 15
    victim = watch.gateway.worker_pids(model="quick")[0]
    os.kill(victim, number)
    os.kill(victim, number)
    eventually("another one stands in", lambda: both_back(watch.gateway, victim), 20)


def test_d8_sighup_is_nothing_to_a_worker(watch: Watch) -> None:
    for pid in watch.gateway.worker_pids(model="quick"):
        os.kill(pid, signal.SIGHUP)
    assert canary(watch.gateway, "quick")


def test_d9_a_worker_without_file_descriptors_keeps_its_callers_and_recovers(watch: Watch) -> None:
    """No new connection can be taken; the ones that are open go on, and nobody dies of it."""
    watch.deaths = True  # nobody dies, but what Envoy tries a second time it counts twice
    gateway = watch.gateway
    victim = gateway.worker_pids(model="quick")[0]
    before = resource.prlimit(victim, resource.RLIMIT_NOFILE)
    in_use = sum(1 for _ in Path(f"/proc/{victim}/fd").iterdir())
    with load_in_thread(load(gateway)) as outcomes:
        resource.prlimit(victim, resource.RLIMIT_NOFILE, (in_use, before[1]))
        told = Counter(canary(gateway, "quick") for _ in range(200))
        resource.prlimit(victim, resource.RLIMIT_NOFILE, before)
        eventually("both are healthy", lambda: both_back(gateway), 10)
    assert victim in gateway.worker_pids(model="quick")
    assert told[True] > 150, told
    (outcome,) = outcomes.result()
    assert outcome.ok > 0.9 * outcome.sent, outcome.failures


def test_d9_envoy_without_file_descriptors_refuses_new_callers_and_recovers(watch: Watch) -> None:
    gateway = watch.gateway
    envoy = gateway.envoy_pid()
    before = resource.prlimit(envoy, resource.RLIMIT_NOFILE)
    with watch.connect() as kept:
        request = b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        in_use = sum(1 for _ in Path(f"/proc/{envoy}/fd").iterdir())
        resource.prlimit(envoy, resource.RLIMIT_NOFILE, (in_use, before[1]))
        try:
            kept.sendall(request)
            assert kept.recv(65536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
        finally:
            resource.prlimit(envoy, resource.RLIMIT_NOFILE, before)
    eventually("new callers are served", lambda: canary(gateway, "quick"), 10)
