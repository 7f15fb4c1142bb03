"""Test images on their way through the gateway: a few keep-alive clients at a steady rate, every answer written down.

Knows HTTP and nothing of rollouts; what the answers mean is counted in tally.py.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import httpx

from contracts.names import HEADER_VERSION
from deploy.demo.models import Image
from deploy.demo.tally import Answer

CLIENTS = 4
RATE = 300.0  # images a second, all clients together: a real load that leaves two cores room for everything else
ANSWER_SECONDS = 15.0
SILENCE_SECONDS = 30.0  # no answer at all for so long ends the demo instead of hanging it


class Traffic:
    """Sends images to the gateway until it is closed. A context manager."""

    def __init__(self, url: str, model: str, images: Sequence[Image]) -> None:
        self._url = f"{url}/v1/models/{model}:predict"
        # Written as JSON once: the clients should spend their time waiting, not encoding.
        self._bodies = [(json.dumps({"instances": [image.row]}).encode(), image.digit) for image in images]
        self._turn = itertools.count()
        self._answers: list[Answer] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_steadily, args=(number,), name=f"images-{number}", daemon=True)
            for number in range(CLIENTS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS + 1)

    def answers(self) -> tuple[Answer, ...]:
        """Every answer so far."""
        with self._changed:
            return tuple(self._answers)

    def collect(self, count: int, progress: Callable[[int], None]) -> tuple[Answer, ...]:
        """Wait for `count` answers to images sent from now on and return them; `progress` is told how many there are.

        Raises TimeoutError when nothing comes back for SILENCE_SECONDS."""
        since, seen = time.monotonic(), -1
        fresh: tuple[Answer, ...] = ()
        with self._changed:
            first = len(self._answers)
            while len(fresh) < count:
                if len(fresh) == seen and not self._changed.wait(SILENCE_SECONDS):
                    raise TimeoutError(f"no image was answered for {SILENCE_SECONDS:g} s")
                seen = len(fresh)
                fresh = tuple(a for a in self._answers[first:] if a.sent >= since)
                progress(min(len(fresh), count))
                if len(fresh) < count:
                    self._changed.wait(0.1)
        return fresh[:count]

    def _send_steadily(self, number: int) -> None:
        interval = CLIENTS / RATE
        due = time.monotonic() + interval * number / CLIENTS
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                answer = self._send(client)
                with self._changed:
                    self._answers.append(answer)
                    self._changed.notify_all()
                due = max(due + interval, time.monotonic() - 1.0)  # after a stall, do not send it all at once

    def _send(self, client: httpx.Client) -> Answer:
        body, digit = self._bodies[next(self._turn) % len(self._bodies)]
        sent = time.monotonic()
        try:
            response = client.post(self._url, content=body, headers={"content-type": "application/json"})
            if response.status_code != 200:
                return Answer(sent, time.monotonic() - sent, failure=f"{response.status_code}: {response.text[:200]}")
            scores = response.json()["predictions"][0]
            version = int(response.headers[HEADER_VERSION])
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            return Answer(sent, time.monotonic() - sent, failure=f"{type(error).__name__}: {error}")
        return Answer(sent, time.monotonic() - sent, version=version, correct=scores.index(max(scores)) == digit)
