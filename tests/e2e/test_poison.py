"""One input that ends the process that computes it, sent again and again through the gateway beside innocent ones.

The model is real: TensorFlow answers its deadly input, LiteRT dies of it, and no sample has shown it before. Everything
else it echoes, so it also shows that an answer is the caller's own.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from loadtests.load import Load
from loadtests.openloop import load_in_thread
from tests.e2e.gateway import Answer, Gateway, eventually, running
from tests.e2e.test_traffic import failures
from tests.serving.poison.killer import DEADLY, make_killer, only_where_it_kills

pytestmark = [pytest.mark.e2e, only_where_it_kills]

PATH = "/v1/models/killer:predict"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = make_killer(tmp_path_factory.mktemp("killer"))
    np.savez(folder / "samples.npz", x=np.arange(24, dtype=np.int32).reshape(-1, 1))
    with running(tmp_path_factory.mktemp("poison") / "home") as up:
        for _ in range(2):
            up.must("register", "killer", str(folder / "killer"), "--samples", str(folder / "samples.npz"), timeout=300)
        yield up


def send(gateway: Gateway, *rows: int) -> Answer:
    return gateway.predict({"instances": [[row] for row in rows]}, PATH)


def deaths(gateway: Gateway) -> int:
    return sum(worker["restarts"] for worker in gateway.status("killer")["live"]["workers"])


def test_with_two_workers_the_first_asks_for_one_life_and_innocents_notice_nothing(gateway: Gateway) -> None:
    gateway.order("deploy", "killer", version=1, replicas=2)
    eventually("Envoy has two healthy workers", lambda: gateway.healthy_workers(1, "killer") == 2, 10)
    body = json.dumps({"instances": [[5]]}).encode()
    url = f"{gateway.url}{PATH}"
    load = (
        Load(url, 150, 300.0, body=body),
        Load(url, 50, 300.0, body=body, fresh=True),
    )
    with load_in_thread(*load) as outcomes:
        answers = [send(gateway, 1, DEADLY) for _ in range(20)]
        eventually("both workers are back", lambda: gateway.healthy_workers(1, "killer") == 2, 10)
    assert [answer.status for answer in answers] == [422] * 20
    assert "made the model's process die" in answers[0].json["error"]
    assert failures(outcomes) == {}
    assert deaths(gateway) <= 2
    assert send(gateway, 1, DEADLY + 1).json == {"predictions": [[1], [DEADLY + 1]]}


def test_the_only_worker_dies_once_and_its_successor_refuses(gateway: Gateway) -> None:
    gateway.order("deploy", "killer", version=1, replicas=1)
    before = deaths(gateway)

    def refused() -> bool:
        return send(gateway, 2, DEADLY).status == 422

    eventually("the input is refused", refused, 10)
    assert deaths(gateway) - before <= 1
    assert send(gateway, 2).json == {"predictions": [[2]]}
    assert {send(gateway, 2, DEADLY).status for _ in range(5)} == {422}
    assert gateway.status("killer")["live"]["workers"][0]["state"] == "ready"


def test_every_answer_is_its_own_callers_while_the_colors_switch(gateway: Gateway) -> None:
    gateway.order("deploy", "killer", version=1, replicas=2)
    gateway.order("deploy", "killer", version=2, replicas=1, strategy="manual")
    stop = threading.Event()

    def caller(number: int) -> tuple[int, set[str]]:
        """Sends rows that nobody else sends, and returns how often and to which versions."""
        sent, versions = 0, set()
        line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=40)
        while not stop.is_set():
            own = [[number * 1_000_000 + sent * 4 + i] for i in range(1 + sent % 4)]
            line.request("POST", PATH, json.dumps({"instances": own}))
            answer = line.getresponse()
            body = json.loads(answer.read())
            assert body == {"predictions": own}, f"sent {own}, got {answer.status} {body}"
            sent, versions = sent + 1, versions | {answer.headers["x-teal-version"]}
        line.close()
        return sent, versions

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller, number) for number in range(8)]
        try:
            for percent in (50, 5, 95):
                gateway.order("weight", "killer", percent=percent)
            for _ in range(5):
                gateway.order("promote", "killer")
                gateway.order("rollback", "killer")
        finally:
            stop.set()
        results = [one.result() for one in callers]
    assert sum(sent for sent, _ in results) > 500
    assert set().union(*(versions for _, versions in results)) == {"1", "2"}
