"""A small honest gateway: the operating API for one model with the rules that matter to a command line (weights,
candidate, refusals), and a predictions port that answers by version. No Envoy, no workers, no clock."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.home import Gateway, Home

DIGESTS = {1: "a" * 64, 2: "b" * 64}
RANK = 2  # dimensions of the model's input, rows included


class Refused(Exception):
    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.body = status, {"error": sentence, "code": code}


class FakeGateway:
    """The state of the model `digits` with versions 1 and 2. `commands` lists what was asked."""

    def __init__(self) -> None:
        self.live: int | None = None
        self.candidate: int | None = None
        self.previous: int | None = None
        self.weight = 0.0
        self.revision = 0
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.bodies: list[Any] = []
        self.port = self.admin_port = 0
        self.lose_every: int | None = None  # fail each so many predictions
        self.warning: str | None = None  # what a deploy is warned of
        self.trial: dict[str, Any] | None = None  # a rollout by evidence: state, reason, observed, evidence
        self.forecast = forecast()
        self.deaf_to: str | None = None  # a command that is acknowledged and not carried out
        self._turn = itertools.count(1)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        if path == "/healthz":
            return {"status": "ok"}
        if path == "/api/v1/models":
            row = {"model": "digits", "live": self.live, "candidate": self.candidate, "versions": 2}
            return {"models": [row]}
        if path == "/api/v1/status":
            facts = {"port": self.port, "admin_port": self.admin_port, "envoy": "ready", "pid": 1}
            return {"gateway": facts, "models": [self.status()]}
        if path.startswith("/api/v1/explain/"):
            return self._explain(path.removeprefix("/api/v1/explain/"))
        if not path.startswith("/api/v1/models/digits"):
            raise Refused(404, "not_found", "no model 'cats'; registered: digits")
        rest = path.removeprefix("/api/v1/models/digits").strip("/").split("?")[0]
        return self._about_digits(method, rest, body)

    def _about_digits(self, method: str, rest: str, body: dict[str, Any]) -> Any:
        if rest == "":
            return {"model": "digits", "versions": [self._version(1), self._version(2)]}
        if rest == "status":
            return self.status()
        if rest == "history":
            event = {"seq": 1, "at": 1.0, "actor": "ada", "action": "deploy", "model": "digits", "version": 1}
            return {"model": "digits", "events": [{**event, "reason": "because", "before": None, "after": None}]}
        if rest.startswith("versions/"):
            return self._one_version(method, int(rest.removeprefix("versions/")))
        self.commands.append((rest, body))
        return self.forecast if rest == "forecast" else self._command(rest, body)

    def _explain(self, request_id: str) -> Any:
        if request_id != "a%2Fb":
            raise Refused(404, "not_found", f"nobody remembers request {request_id!r}")
        answer = {
            "model": "digits", "version": 2, "color": "green", "worker": "digits-2-green-0", "role": "candidate",
            "role_now": "live", "state": "shadow", "mirrored": True, "at": 1.0, "rows": 2, "kind": "class",
            "predicted": [7, None], "digest": DIGESTS[2], "plan": "litert", "source": "/models/digits",
            "registered_at": 1.0,
            "lineage": {"training_run": "run 7", "dataset_digest": "d" * 64, "git_commit": "c0ffee"},
        }  # fmt: skip
        unread = {**answer, "mirrored": False, "kind": None, "predicted": [], "digest": None, "lineage": {}}
        return {"request_id": "a/b", "answers": [answer, unread], "silent": ["digits-1-blue-1"]}

    def _one_version(self, method: str, version: int) -> Any:
        if version not in DIGESTS:
            raise Refused(404, "not_found", f"model digits has no version {version}; registered: 1, 2")
        if method == "GET":
            return {**self._version(version), "manifest": manifest()}
        if version in (self.live, self.candidate):
            raise Refused(409, "conflict", f"model digits: version {version} is deployed; drain it first")
        return {"model": "digits", "version": version, "deleted": True}

    def _command(self, verb: str, body: dict[str, Any]) -> Any:
        if verb == "deploy":
            self._deploy(body.get("version") or 2)
        elif verb == "weight":
            self._need_candidate()
            self.weight = body["percent"]
        elif verb == "promote":
            self._need_candidate()
            self.live, self.previous, self.candidate, self.weight = self.candidate, self.live, None, 0.0
        elif verb in ("rollback", "undo", "abort"):
            self._back()
        elif verb in ("pause", "resume", "skip", "extend"):
            if self.trial is None:
                raise Refused(
                    409, "conflict", f"model digits: its rollout is moved by hand, so there is nothing to {verb}"
                )
        elif verb == "drain":
            self.live = self.candidate = self.previous = None
        else:
            raise Refused(404, "not_found", f"no command {verb}")
        self.revision += 1
        return {**self.status(), "warning": self.warning} if verb == "deploy" else self.status()

    def _deploy(self, version: int) -> None:
        if version not in DIGESTS:
            raise Refused(404, "not_found", f"model digits has no version {version}; registered: 1, 2")
        if version == self.live:
            raise Refused(409, "conflict", f"model digits: version {version} is already live")
        if self.live is None:
            self.live = version
        else:
            self.candidate = version

    def _need_candidate(self) -> None:
        if self.candidate is None:
            raise Refused(409, "conflict", "model digits: there is no candidate; deploy one: teal deploy digits")

    def _back(self) -> None:
        if self.candidate is not None:
            self.candidate, self.weight = None, 0.0
        elif self.previous is not None:
            self.live, self.previous = self.previous, self.live
        else:
            raise Refused(409, "conflict", "model digits: there is nothing to go back to")

    def status(self) -> dict[str, Any]:
        weights = {"blue": 100 - self.weight, "green": self.weight}
        previous = {"version": self.previous, "color": "green", "until": 2e9} if self.previous else None
        by_hand = {"state": "canary", "reason": "waiting for an operator", "observed": None, "evidence": None}
        strategy = "manual" if self.trial is None else "canary"
        rollout = {"strategy": strategy, "step": f"{self.weight:g} %", **(self.trial or by_hand)}
        return {
            "model": "digits",
            "revision": self.revision,
            "live": self._place(self.live, "blue", 100 - self.weight),
            "candidate": self._place(self.candidate, "green", self.weight),
            "previous": previous,
            "rollout": rollout if self.candidate else None,
            "applied": {"revision": self.revision, "weights": weights} if self.live else None,
        }

    def _place(self, version: int | None, color: str, weight: float) -> dict[str, Any] | None:
        if version is None:
            return None
        workers = [{"id": f"digits-{version}-0", "state": "ready", "pid": 7, "restarts": 0, "reason": "ready"}]
        facts = {"version": version, "color": color, "weight": weight, "digest": DIGESTS[version]}
        return {**facts, "replicas": 1, "ready": 1, "workers": workers}

    def _version(self, version: int) -> dict[str, Any]:
        role = {self.live: "live", self.candidate: "candidate"}.get(version)
        return {
            "model": "digits",
            "version": version,
            "digest": DIGESTS[version],
            "plan": "litert",
            "role": role,
            "color": "blue" if role == "live" else None,
            "weight": 0.0,
            "registered_at": 1.0,
            "source": "/models/digits",
            "seconds_per_row": 2.1e-06,
            "lineage": {"dataset": "handwritten digits", "parameters": {"epochs": 3}},
        }

    def predict(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        """What Envoy and a worker would answer: the sum of each row, by the live version or the one in the path."""
        if path.endswith("/metadata"):
            shape = {"dim": [{"size": "-1"}, {"size": "2"}], "unknown_rank": False}
            tensors = {"inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape}}}
            return 200, {}, {"metadata": {"signature_def": {"signature_def": {"serving_default": tensors}}}}
        self.bodies.append(body)
        turn = next(self._turn)
        version = 2 if "/versions/2" in path else self._pick(turn)
        headers = {"x-teal-version": str(version), "x-teal-color": "blue", "x-request-id": "r-1"}
        if version is None:
            return 503, {"retry-after": "1"}, {"error": "digits is not served"}
        if self.lose_every is not None and turn % self.lose_every == 0:
            return 503, headers, {"error": "lost on purpose"}
        if isinstance(body, list):
            return 200, headers, {"predictions": [body]}
        rows = body.get("instances")
        if not rows or any(not isinstance(row, list) or len(row) != 2 for row in rows):
            return 400, headers, {"error": 'input "x": expected float32 [rows, 2]'}
        return 200, headers, {"predictions": [[sum(row)] for row in rows]}

    def _pick(self, turn: int) -> int | None:
        """Golden-ratio turns: any share is met closely after few requests, without chance in a test."""
        drawn = 100.0 * ((turn * 0.6180339887498949) % 1.0)
        if self.candidate is not None and drawn < self.weight and self.deaf_to != "weight":
            return self.candidate
        if self.deaf_to == "rollback" and self.commands and self.commands[-1][0] == "rollback":
            return self.previous
        return self.live


def trial(state: str = "canary", **facts: Any) -> dict[str, Any]:
    """A rollout by evidence at 10 %, third step of five, with a guardrail that needs evidence and one that does not."""
    errors = {
        "watched": "errors",
        "on_harm": "rollback",
        "harm": -0.4,
        "harm_threshold": 2.3,
        "safe": 1.1,
        "safe_threshold": 1.3,
        "required": True,
        "risk": {"lower": 0.4, "estimate": 0.9, "upper": 2.1},
        "live": {"units": 10800, "bad": 20},
        "candidate": {"units": 1204, "bad": 2},
        "said": "2 of 1204 against 20 of 10800",
    }
    evidence = {
        "step": 3,
        "steps": 5,
        "stage": "canary",
        "weight": 10.0,
        "dwelt": 81.0,
        "dwell": 120.0,
        "units": 1204,
        "units_needed": 20,
        "age": 330.0,
        "deadline": 7200.0,
        "unseen": 2.0,
        "eta": 520.0,
        "twice": 190.0,
        "guardrails": [errors, {**errors, "watched": "batches", "safe": None, "required": False, "risk": None}],
    }
    reason = "version 2: at 10 % for 81 of 120 s"
    return {"state": state, "reason": reason, "observed": 10.2, "evidence": {**evidence, **facts}}


def forecast(problem: str | None = None) -> dict[str, Any]:
    """What a plan may expect of 118 requests a second."""
    return {
        "model": "digits",
        "plan": {},
        "requests_per_second": 118.0,
        "failing": 0.001,
        "measured": {"requests": 354, "seconds": 3.0},
        "promote_seconds": None if problem else 1320.0,
        "find": [{"risk": 3.0, "seconds": 520.0, "requests": 13000.0}],
        "problem": problem,
    }


def manifest() -> dict[str, Any]:
    """A whole package description with a chosen and a slower plan."""
    plan = {
        "reason": "fastest correct plan",
        "path": "plans/litert/model.tflite",
        "argmax_flips": 0,
        "rows_checked": 64,
    }
    times = {"1": 2.1e-06, "64": 2.0e-05}
    signature = {
        "name": "serving_default",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 1]}],
        "batched": True,
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "format": 1,
        "source": {"kind": "savedmodel", "digest": "c" * 64},
        "plan": "litert",
        "plans": [
            {**plan, "name": "litert", "status": "chosen", "max_abs_error": 1.2e-07, "seconds_per_run": times},
            {**plan, "name": "tensorflow", "status": "passed", "max_abs_error": 0.0, "seconds_per_run": {"1": 2.6e-04}},
        ],
        "signatures": [signature],
        "buckets": [1, 64],
        "warmup": None,
        "files": [{"path": "plans/litert/model.tflite", "sha256": "d" * 64, "size": 4096}],
        "lineage": {"dataset": "handwritten digits"},
        "created_at": "2026-01-01T00:00:00+00:00",
        "prepared_with": {"tensorflow": "2.21.0"},
    }


@contextmanager
def running_on(home: Path, kind: type[FakeGateway] = FakeGateway) -> Iterator[FakeGateway]:
    """The fake, found through `home` as the real one is: ports in gateway.json and the lock held."""
    gateway = kind()
    place = Home(home)
    with _serving(_operating(gateway)) as admin, _serving(_predicting(gateway)) as data, place.gateway_lock():
        gateway.admin_port, gateway.port = admin, data
        place.announce(Gateway(pid=1, port=data, admin_port=admin, started_at=0.0))
        yield gateway


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Tests read answers, not logs."""

    def body(self) -> Any:
        """JSON as a value; a picture as its kind and how many bytes it has."""
        raw, kind = self.rfile.read(int(self.headers.get("content-length", 0))), self.headers.get("content-type", "")
        return [kind, len(raw)] if kind.startswith("image/") else json.loads(raw or b"{}")

    def reply(self, status: int, headers: dict[str, str], body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-type": "application/json", "content-length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


def _operating(gateway: FakeGateway) -> type[BaseHTTPRequestHandler]:
    class Operating(_Handler):
        def handle_any(self) -> None:
            try:
                self.reply(200, {}, gateway.answer(self.command, self.path, self.body()))
            except Refused as refused:
                self.reply(refused.status, {}, refused.body)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server calls

    return Operating


def _predicting(gateway: FakeGateway) -> type[BaseHTTPRequestHandler]:
    class Predicting(_Handler):
        def handle_any(self) -> None:
            self.reply(*gateway.predict(self.command, self.path, self.body()))

        do_GET = do_POST = handle_any  # noqa: N815 - the names http.server calls

    return Predicting
