"""Rows A4, A5: clients that take all the time in the world. They wait side by side: the limits are real ones."""

import contextlib
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.limits import LIMITS
from tests.battery import models
from tests.battery.vitals import Watch
from tests.e2e.gateway import Gateway, eventually

pytestmark = pytest.mark.e2e

SOCKETS = 500
BODY = json.dumps({"instances": models.rows(3).tolist()}).encode()
POST = b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\n"


def test_a4_a5_the_slow_are_cut_off_in_time_and_nobody_else_notices(watch: Watch) -> None:
    """500 slow headers, 20 slow bodies and 20 slow readers at once, and good callers among them."""
    with ThreadPoolExecutor(4) as pool, contextlib.ExitStack() as opened:
        headers = [opened.enter_context(watch.connect()) for _ in range(SOCKETS)]
        bodies = [opened.enter_context(watch.connect()) for _ in range(20)]
        readers = [opened.enter_context(slow_reader(watch)) for _ in range(20)]
        for wire in headers:
            wire.sendall(b"POST /v1/mod")
        for wire in bodies:
            wire.sendall(POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY[:10])
        big = json.dumps({"instances": models.rows(*range(97)).tolist() * 100}).encode()
        for wire in readers:
            wire.sendall(POST + b"content-length: %d\r\n\r\n" % len(big) + big)
        good = pool.submit(keep_asking, watch, LIMITS.header_seconds + 5)
        cut = pool.submit(trickle, headers, LIMITS.header_seconds + 5)
        late = pool.submit(trickle, bodies, LIMITS.request_seconds + 5)
        assert active(watch.gateway) >= SOCKETS, "they are all there at once"
        asked, answered = good.result()
        assert answered == asked > 20
        assert cut.result() == SOCKETS
        assert late.result() == len(bodies)
        heard = [watch.read(wire) for wire in bodies]
        assert all(said == b"" or said.split()[1] in (b"408", b"504") for said in heard), heard
    eventually("nothing is under way", lambda: under_way(watch.gateway) == 0, 10)


def slow_reader(watch: Watch) -> socket.socket:
    """Takes a few kilobytes and then nothing more."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.settimeout(20)
    wire.connect(("127.0.0.1", watch.gateway.port))
    return wire


def keep_asking(watch: Watch, seconds: float) -> tuple[int, int]:
    until, asked, answered = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        asked += 1
        answered += watch.predict(BODY).status == 200
        time.sleep(0.1)
    return asked, answered


def trickle(wires: list[socket.socket], seconds: float) -> int:
    """A byte a second on each; how many were hung up on within so many seconds."""
    left, until = list(wires), time.monotonic() + seconds
    while left and time.monotonic() < until:
        left = [wire for wire in left if still_open(wire)]
        time.sleep(1)
    return len(wires) - len(left)


def still_open(wire: socket.socket) -> bool:
    """Whether the other side has said or done nothing yet; sends one more byte."""
    try:
        wire.sendall(b"e")
        wire.setblocking(False)
        return len(wire.recv(1, socket.MSG_PEEK)) < 0
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        wire.settimeout(5)


def active(gateway: Gateway) -> int:
    return gauge(gateway, "envoy_http_downstream_cx_active")


def under_way(gateway: Gateway) -> int:
    return gauge(gateway, "envoy_http_downstream_rq_active")


def gauge(gateway: Gateway, name: str) -> int:
    pattern = re.compile(name + r'\{envoy_http_conn_manager_prefix="predictions"\} (\d+)')
    return sum(int(found[1]) for line in gateway.envoy_metrics() if (found := pattern.match(line)))
