"""A Prometheus in memory behind its real HTTP API: a test says what was scraped when, and may break the answers."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs

LABEL = re.compile(r'(\w+)="([^"]*)"')
MATCHER = re.compile(r"(\w+)=~`([^`]*)`")
QUESTION = re.compile(r"\{(?P<matchers>.*)\}(?:\[(?P<window>\d+)s\])?")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Said:
    """An answer that a test puts in place of an honest one. `hang` keeps the caller waiting first, `drip` sends the
    body byte by byte until the caller leaves."""

    status: int = 200
    body: str = ""
    hang: bool = False
    drip: bool = False


@dataclass
class FakePrometheus:
    """Honest about what it answers: selectors with `=~` on anchored patterns, over a window or at one moment, and
    time(). `now` is its clock and has nothing to do with anybody else's."""

    url: str = ""
    now: float = 1_000_000.0
    saying: Said | None = None
    asked: list[str] = field(default_factory=list)
    authorization: str | None = None
    racing: Mapping[str, float | str] | None = None  # what Envoy shows when it is scraped between two questions
    _samples: dict[Labels, list[tuple[float, str]]] = field(default_factory=dict)
    _gone: set[tuple[str, str]] = field(default_factory=set)
    released: Event = field(default_factory=Event)

    def scrape(self, job: str, instance: str, series: Mapping[str, float | str] | None, ago: float = 0.0) -> None:
        """What a target showed, by series such as `up{a="b"}`; None for one that did not answer."""
        at = self.now - ago
        self._gone.discard((job, instance))
        for text, value in {"up": 1 if series is not None else 0, **(series or {})}.items():
            labels = {"__name__": text.partition("{")[0], **dict(LABEL.findall(text)), "job": job, "instance": instance}
            self._samples.setdefault(tuple(sorted(labels.items())), []).append((at, str(value)))

    def remove(self, job: str, instance: str) -> None:
        """It is no target any more; its samples stay."""
        self._gone.add((job, instance))

    def answer(self, query: str, moment: float) -> Any:
        if query == "time()":
            return {"resultType": "scalar", "result": [self.now, str(self.now)]}
        found = QUESTION.fullmatch(query)
        assert found is not None, query
        window, result = found["window"], []
        for labels, samples in self._samples.items():
            have = dict(labels)
            if not all(
                re.fullmatch(pattern, have.get(name, "")) for name, pattern in MATCHER.findall(found["matchers"])
            ):
                continue
            seen = [pair for pair in samples if moment - float(window or 300) <= pair[0] <= moment]
            if seen and window:
                result.append({"metric": have, "values": seen})
            elif seen and (have["job"], have["instance"]) not in self._gone:
                result.append({"metric": have, "value": seen[-1]})
        return {"resultType": "matrix" if window else "vector", "result": result}


@contextmanager
def fake_prometheus() -> Iterator[FakePrometheus]:
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            query = form["query"][0]
            fake.asked.append(query)
            fake.authorization = self.headers.get("authorization")
            honest = fake.answer(query, float(form.get("time", [fake.now])[0]))
            if fake.racing is not None and "envoy_cluster" in query:
                racing, fake.racing = fake.racing, None
                fake.scrape("teal-envoy", "envoy", racing)
            said = fake.saying or Said(body=json.dumps({"status": "success", "data": honest}))
            if said.hang:
                fake.released.wait(30)
            body = said.body.encode()
            self.send_response(said.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            try:
                self._send(body, said)
            except OSError:
                return  # the caller left

        def _send(self, body: bytes, said: Said) -> None:
            for i in range(len(body)) if said.drip else ():
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                if fake.released.wait(0.05):
                    return
            if not said.drip:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The test's output stays the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
