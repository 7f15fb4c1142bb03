"""Row A18: callers who leave at every phase of a request, ten thousand times, and nothing is left of them."""

import contextlib
import json
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.metrics import BATCHES, REQUESTS
from tests.battery import models
from tests.battery.vitals import Watch, total
from tests.e2e.gateway import Gateway, eventually

pytestmark = pytest.mark.e2e

QUICK, SLOW = (
    f"POST /v1/models/{model}:predict HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n".encode()
    for model in ("quick", "slow")
)
BODY = json.dumps({"instances": models.rows(3).tolist()}).encode()
BIG = json.dumps({"instances": models.rows(*range(97)).tolist() * 10}).encode()
CYCLES = 2000
BLOCKS, CALLERS = 5, 200


def half_an_answer(wire: socket.socket) -> None:
    wire.sendall(QUICK % len(BIG) + BIG)
    wire.recv(100)


PHASES: dict[str, Callable[[socket.socket], object]] = {
    "connect": lambda wire: None,
    "half the headers": lambda wire: wire.sendall(QUICK[:40]),
    "half the body": lambda wire: wire.sendall(QUICK % len(BODY) + BODY[: len(BODY) // 2]),
    "half a chunk": lambda wire: wire.sendall(
        b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"
    ),
    "running": lambda wire: wire.sendall(QUICK % len(BODY) + BODY),
    "half the answer": half_an_answer,
}


@pytest.mark.parametrize("phase", PHASES)
def test_a18_nothing_is_left_of_callers_who_leave(watch: Watch, phase: str) -> None:
    cycles = CYCLES // 4 if phase == "half the answer" else CYCLES

    def leave(_: int) -> None:
        with watch.connect() as wire:
            PHASES[phase](wire)
            # Half of them without a word: a reset instead of an orderly end.
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", _ % 2, 0))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(cycles)))
    eventually("all connections are gone", lambda: connections(watch.gateway) == 0, 20)


def connections(gateway: Gateway) -> float:
    return total(gateway.envoy_metrics(), "envoy_http_downstream_cx_active", 'prefix="predictions"')


def test_a18_who_leaves_while_queued_is_not_computed(watch: Watch) -> None:
    """Two hundred callers queue up behind seconds of work, and hang up."""
    (worker,) = [w["id"] for w in watch.gateway.workers() if w["id"].startswith("slow-")]
    before = watch.gateway.worker_metrics(worker)
    block = json.dumps({"instances": models.rows(*range(64)).tolist()}).encode()

    def rise(name: str, having: str = "") -> float:
        return total(watch.gateway.worker_metrics(worker), name, having) - total(before, name, having)

    with ThreadPoolExecutor(BLOCKS) as pool:
        busy = [pool.submit(watch.predict, block, "slow") for _ in range(BLOCKS)]
        eventually("work has piled up", lambda: queued(watch.gateway, worker) >= 64, 10)
        with contextlib.ExitStack() as opened:
            for _ in range(CALLERS):
                opened.enter_context(watch.connect()).sendall(SLOW % len(BODY) + BODY)
            eventually("they are all with the worker", lambda: under_way(watch.gateway) >= CALLERS, 10)
        assert {answer.result().status for answer in busy} == {200}
    eventually("all of them are counted", lambda: rise(REQUESTS.name) >= BLOCKS + CALLERS, 20)
    assert rise(REQUESTS.name, '"cancelled"') >= 0.9 * CALLERS
    assert rise(BATCHES.name) <= BLOCKS + 0.1 * CALLERS


def queued(gateway: Gateway, worker: str) -> float:
    return total(gateway.worker_metrics(worker), "teal_queue_rows")


def under_way(gateway: Gateway) -> float:
    return total(gateway.envoy_metrics(), "envoy_cluster_upstream_rq_active", '"slow"')
