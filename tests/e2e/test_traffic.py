"""Moving traffic costs nobody an answer: weights, promotions and rollbacks under an open-loop load of 300 requests a
second, half on kept connections and half on fresh ones."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from loadtests.load import Load, Outcome
from loadtests.openloop import load_in_thread, run
from tests.e2e.gateway import Gateway, eventually

pytestmark = pytest.mark.e2e


@contextmanager
def three_hundred_a_second(gateway: Gateway, images: np.ndarray) -> Iterator[Future[list[Outcome]]]:
    with load_in_thread(*loads(gateway, images)) as outcomes:
        yield outcomes


def loads(gateway: Gateway, images: np.ndarray, rate: float = 300.0, seconds: float = 300.0) -> tuple[Load, Load]:
    url = f"{gateway.url}/v1/models/digits:predict"
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    return (
        Load(url, rate / 2, seconds, body=body),
        Load(url, rate / 2, seconds, body=body, fresh=True),
    )


def failures(outcomes: Future[list[Outcome]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in outcomes.result():
        assert outcome.sent > 0
        for reason, count in outcome.failures.items():
            found[str(reason)] = found.get(str(reason), 0) + count
    return found


def served(gateway: Gateway, images: np.ndarray) -> set[str]:
    """Which versions answer now: 60 requests, kept and fresh connections."""
    versions: set[str] = set()
    for load in loads(gateway, images, rate=600, seconds=0.1):
        outcome = asyncio.run(run(load))
        assert outcome.ok == outcome.sent, outcome.failures
        versions |= set(outcome.versions)
    return versions


def test_a_hundred_weight_changes_fail_nobody_and_zero_is_zero(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    with three_hundred_a_second(serving, images) as outcomes:
        for step in range(100):
            weight = (0, 1, 5, 10, 25, 50, 75, 100, 0.01, 33.33)[step % 10]
            status = serving.order("weight", percent=weight)
            assert status["candidate"]["weight"] == weight
            if weight == 0:
                assert served(serving, images) == {"1"}
            if weight == 100:
                assert served(serving, images) == {"2"}
    assert failures(outcomes) == {}


def test_twenty_promotions_and_rollbacks_fail_nobody(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    with three_hundred_a_second(serving, images) as outcomes:
        for _ in range(20):
            assert serving.order("promote")["live"]["version"] == 2
            assert served(serving, images) == {"2"}
            assert serving.order("rollback")["live"]["version"] == 1
            assert served(serving, images) == {"1"}
    assert failures(outcomes) == {}


def test_deploying_aborting_and_deploying_again_fails_nobody(serving: Gateway, images: np.ndarray) -> None:
    with three_hundred_a_second(serving, images) as outcomes:
        for _ in range(3):
            serving.order("deploy", version=2, strategy="manual")
            serving.order("weight", percent=50)
            serving.order("abort")
            assert served(serving, images) == {"1"}
            eventually("the candidate's worker is gone", lambda: len(worker_count(serving)) == 1, 40)
    assert failures(outcomes) == {}


def worker_count(gateway: Gateway) -> list[int]:
    return [pid for role in ("live", "candidate", "previous") if gateway.status()[role] for pid in pids(gateway, role)]


def pids(gateway: Gateway, role: str) -> list[int]:
    return [w["pid"] for w in gateway.status()[role].get("workers", [])]


def test_the_observed_share_is_the_weight(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    serving.order("weight", percent=25)
    url = f"{serving.url}/v1/models/digits:predict"
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    outcome = asyncio.run(run(Load(url, 1000, 4, body=body)))
    assert outcome.ok == outcome.sent
    share = outcome.versions["2"] / outcome.sent
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / outcome.sent) ** 0.5  # four standard deviations


def test_a_raised_weight_never_moves_a_key_back(serving: Gateway, images: np.ndarray) -> None:
    serving.order("deploy", version=2, strategy="manual")
    keys = [f"user-{n}" for n in range(600)]

    def on_candidate(percent: float) -> set[str]:
        serving.order("weight", percent=percent)
        found = set()
        for key in keys:
            answer = serving.predict({"instances": images[:1].tolist()}, x_teal_key=key)
            if answer.headers["x-teal-version"] == "2":
                found.add(key)
        return found

    ten, quarter = on_candidate(10), on_candidate(25)
    assert ten
    assert ten < quarter
    assert on_candidate(10) == ten
    assert on_candidate(0) == set()
