"""Rows A15-A17, A19-A23: what is no honest HTTP, names and headers that nobody may choose, deadlines, order."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events
import pytest

from contracts.metrics import BATCHES
from tests.battery import models
from tests.battery.vitals import Watch, total
from tests.e2e.gateway import Gateway, call

pytestmark = pytest.mark.e2e

BODY = json.dumps({"instances": models.rows(3).tolist()}).encode()
PATH = "/v1/models/quick:predict"
POST = b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\n"
SMUGGLED = b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\nx-request-id: smuggled\r\ncontent-length: 0\r\n\r\n"


def predictions(gateway: Gateway, model: str = "quick") -> float:
    """How many predictions the worker of a model has seen."""
    (worker,) = [w for w in gateway.workers() if w["id"].startswith(f"{model}-")]
    return total(gateway.worker_metrics(worker["id"]), "teal_requests_total")


TWO_FOR_ONE = (
    POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: chunked\r\ncontent-length: %d\r\n\r\n0\r\n\r\n" % (len(SMUGGLED) + 5) + SMUGGLED,
    POST + b"content-length: 2\r\ncontent-length: %d\r\n\r\n{}" % (len(SMUGGLED) + 2) + SMUGGLED,
    POST + b"content-length: 2, 3\r\n\r\n{}" + SMUGGLED,
    POST + b"content-length: +2\r\n\r\n{}" + SMUGGLED,
    POST + b"content-length: -1\r\n\r\n" + SMUGGLED,
    POST + b"content-length: 0x2\r\n\r\n{}" + SMUGGLED,
    POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: identity\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n" + SMUGGLED,  # h11's CVE-2025-43859
    POST + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"transfer-encoding: chunked\r\n\r\n10000000000000000\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"x\x00y: a\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    POST + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    POST + b"x y: a\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    b"POST /v1/models/quick:predict HTTP/1.1\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,  # no Host
    b"POST /v1/models/quick:predict HTTP/9.9\r\nhost: t\r\n\r\n" + SMUGGLED,
    b"GARBAGE\r\n\r\n" + SMUGGLED,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # a TLS hello
)


def test_a15_what_can_be_read_as_two_requests_is_400_and_the_end_of_the_connection(watch: Watch) -> None:
    before = predictions(watch.gateway)
    with ThreadPoolExecutor(len(TWO_FOR_ONE)) as pool:  # Envoy lingers a second on what is no HTTP
        for sent, said in zip(TWO_FOR_ONE, pool.map(watch.raw, TWO_FOR_ONE), strict=True):
            statuses = re.findall(rb"HTTP/1\.[01] (\d+)", said)
            assert statuses in ([b"400"], [b"501"]), (sent, said)
            assert b"smuggled" not in said, sent
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"], (sent, said)
    honest_first_halves = sum(sent.startswith(POST + b"transfer-encoding: chunked\r\n\r\n") for sent in TWO_FOR_ONE) + 1
    assert predictions(watch.gateway) - before <= honest_first_halves


ELSEWHERE = (
        "/v1/models/../../metrics", "/v1/models/%2e%2e/%2e%2e/metrics", "/v1/models/quick/%2e%2e/%2e%2e/worker",
        "//metrics", "//worker", "/./worker", "/v1/../worker", "/worker;x=1", "/worker?x", "/metrics/", "/admin",
        "//admin", "/stats", "/config_dump", "/quitquitquit", "/healthz", "/api/v1/status", "/docs", "/%77orker",
        "/v1/models/quick%2f..%2f..%2fworker", "/v1/models/quick/..;/..;/worker", "\\worker", "/v1\\..\\worker",
        "/v1/models/quick:predict/../../../../worker", "http://evil/worker", "http://evil@127.0.0.1/metrics", "*",
        "/v1/models/quick%00:predict", "/v1/models/quick:predict%0d%0ax:%201", "/%c0%ae%c0%ae/worker", "worker", "",
)  # fmt: skip


@pytest.mark.parametrize("host", ["t", "x/abc?bar=", "127.0.0.1:8090"])
def test_a16_no_spelling_of_a_path_or_host_reaches_what_is_not_for_callers(watch: Watch, host: str) -> None:
    before = predictions(watch.gateway)

    def ask(target: str) -> bytes:
        return watch.raw(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode("latin-1"))

    with ThreadPoolExecutor(len(ELSEWHERE)) as pool:  # Envoy lingers a second on what is no HTTP
        for target, said in zip(ELSEWHERE, pool.map(ask, ELSEWHERE), strict=True):
            assert said.split()[1] in (b"400", b"404", b"405"), (target, said)
            assert b'"pid"' not in said, target
            assert b"# HELP" not in said, target
    assert predictions(watch.gateway) == before


def test_a16_the_absolute_form_of_an_honest_path_is_answered(watch: Watch) -> None:
    said = watch.raw(
        b"POST http://anywhere/v1/models/quick:predict HTTP/1.1\r\nhost: t\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    )
    assert said.startswith(b"HTTP/1.1 200 "), said


TOO_MUCH = (
    (b"x: " + b"a" * 64 * 1024 + b"\r\n", 431),
    (b"a" * 64 * 1024 + b": 1\r\n", 431),
    (b"".join(b"x-%d: 1\r\n" % n for n in range(1000)), 431),
    (b"content_length: 5\r\n", 400),
    (b"x_teal_version: 7\r\nx-teal-version: 8\r\n", 400),
)


def test_a17_too_many_headers_and_twins_with_underscores_are_refused(watch: Watch) -> None:
    for headers, status in TOO_MUCH:
        said = watch.raw(POST + headers + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert said.startswith(b"HTTP/1.1 %d " % status), (headers[:40], said[:300])
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]


NO_MODELS = (
    "nope", "quick2", "..%2f..%2fetc", "../../etc/passwd", "a" * 300, "a" * 3000, "%00", "qu%00ick", "%E2%80%AEquick",
     "qui%D1%81k", "QUICK", "quick%20", "%20quick", "quick.", "-", "%ff%fe", "%7B%7B7*7%7D%7D", "quick%0a",
)  # fmt: skip
NO_VERSIONS = ("0", "99", "-1", "1.0", "1e0", "0x1", "9" * 19, "9" * 300, "1%00", "latest")


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("/v1/models/{}:predict", NO_MODELS),
        ("/v1/models/{}/versions/1:predict", NO_MODELS),
        ("/v2/models/{}/infer", NO_MODELS),
        ("/v1/models/quick/versions/{}:predict", NO_VERSIONS),
        ("/v2/models/quick/versions/{}/infer", NO_VERSIONS),
    ],
)
def test_a19_a_model_or_version_nobody_deployed_is_404_or_400_and_leaves_no_series(
    watch: Watch, form: str, names: tuple[str, ...]
) -> None:
    series = labelled(watch.gateway)
    for name in names:
        answer = watch.call(form.format(name), BODY)
        assert answer.status in (400, 404), (name, answer)
        assert answer.json["error"], name
    grown = labelled(watch.gateway) - series
    assert not [line for line in grown if "le=" not in line and "response_code" not in line], grown


def labelled(gateway: Gateway) -> set[str]:
    """Every series of Envoy and of the workers, without values."""
    lines = gateway.envoy_metrics() + [line for w in gateway.workers() for line in gateway.worker_metrics(w["id"])]
    return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}


def test_a20_labels_that_callers_choose_make_no_series(watch: Watch) -> None:
    def one(n: int) -> int:
        headers = {"x-teal-version": f"v{n}", "x-teal-model": f"m{n}", "x-teal-color": f"c{n}", "x-teal-key": f"u{n}",
                   "x-user": f"user-{n}", "user-agent": f"agent-{n}", "x-request-id": f"id-{n}",
                   "x-envoy-downstream-service-cluster": f"cluster-{n}"}  # fmt: skip
        path = PATH if n % 2 else f"/v1/models/m{n}:predict"
        return call(watch.gateway.url + path, BODY, headers).status

    one(0), one(1)  # what the first of each kind makes is there
    before = labelled(watch.gateway)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(2000))) == {200, 404}
    grown = labelled(watch.gateway) - before
    assert not [line for line in grown if re.search(r"user-|agent-|cluster-\d|[vmcu]\d{2,}|id-\d", line)]
    assert len(grown) < 20, grown  # buckets and codes of Envoy that had not come up


def test_a21_who_answered_is_said_by_the_gateway_and_not_by_the_caller(watch: Watch) -> None:
    spoofed = {
        "x-teal-version": "77", "x-teal-color": "green", "x-teal-model": "other", "x-served-version": "77",
        "x-priority": "0", "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-expected-rq-timeout-ms": "1",
        "x-envoy-max-retries": "100", "x-envoy-retry-on": "5xx", "x-envoy-attempt-count": "9",
        "x-envoy-original-path": "/worker", "x-envoy-internal": "true", "x-envoy-hedge-on-per-try-timeout": "true",
        "x-envoy-upstream-alt-stat-name": "evil", "x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "gopher",
    }  # fmt: skip
    for path, body in ((PATH, BODY), (PATH, b"{}"), ("/v1/models/slow:predict", BODY)):
        answer = watch.call(path, body, spoofed)
        assert answer.status == (400 if body == b"{}" else 200)
        assert answer.headers["x-teal-model"] == path.split("/")[-1].removesuffix(":predict")
        assert (answer.headers["x-teal-version"], answer.headers["x-teal-color"]) == ("1", "blue")
        assert "x-served-version" not in answer.headers
    assert not [line for line in labelled(watch.gateway) if "evil" in line]


@pytest.mark.parametrize("model", ["quick", "slow"])
@pytest.mark.parametrize(
    ("given", "statuses"),
    [("0", {504}), ("-5", {400}), ("abc", {400}), ("", {400}), ("nan", {400}), ("1e400", {400}),
     ("1000000000000", {200}), ("29000", {200})],
)  # fmt: skip
def test_a22_a_deadline_is_kept_clamped_or_refused(watch: Watch, model: str, given: str, statuses: set[int]) -> None:
    ran = runs(watch.gateway, model)
    answer = watch.predict(BODY, model, x_teal_timeout_ms=given)
    assert answer.status in statuses, answer
    assert runs(watch.gateway, model) == ran + (answer.status == 200), "nobody computes for who cannot be answered"


def runs(gateway: Gateway, model: str) -> float:
    (worker,) = [w for w in gateway.workers() if w["id"].startswith(f"{model}-")]
    return total(gateway.worker_metrics(worker["id"]), BATCHES.name)


def test_a22_what_cannot_be_in_time_behind_others_is_504_or_503_without_a_run_of_its_own(watch: Watch) -> None:
    big = json.dumps({"instances": models.rows(*range(64)).tolist()}).encode()
    with ThreadPoolExecutor(24) as pool:
        before = runs(watch.gateway, "slow")
        busy = [pool.submit(watch.predict, big, "slow") for _ in range(3)]
        late = [pool.submit(watch.predict, BODY, "slow", x_teal_timeout_ms="1") for _ in range(20)]
        assert {answer.result().status for answer in late} <= {200, 503, 504}
        assert {answer.result().status for answer in busy} == {200}
    good = sum(answer.result().status == 200 for answer in late)
    assert runs(watch.gateway, "slow") - before <= 3 + good


def test_a22_a_deadline_of_the_infer_protocol_counts_too(watch: Watch) -> None:
    body = json.dumps(
        {
            "parameters": {"timeout": 1},  # microseconds
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [64, 64],
                        "data": models.rows(*range(64)).ravel().tolist()}],
        }
    )  # fmt: skip
    assert watch.call("/v2/models/slow/infer", body.encode()).status == 504


def test_a23_pipelined_requests_are_answered_in_order(watch: Watch) -> None:
    """Small and slow ones mixed, some of them refused, each with an id of its own."""
    requests, expected = [], []
    for n in range(100):
        model, image = ("slow" if n % 25 == 7 else "quick"), models.rows(n)
        body = b"nonsense" if n % 10 == 3 else json.dumps({"instances": image.tolist()}).encode()
        head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nhost: t\r\nx-request-id: {n}\r\n"
        last = "connection: close\r\n" if n == 99 else ""
        requests.append(f"{head}{last}content-length: {len(body)}\r\n\r\n".encode() + body)
        expected.append((str(n), None if n % 10 == 3 else image))
    answers = split_answers(watch.raw(b"".join(requests), timeout=60))
    assert [a[0] for a in answers] == [e[0] for e in expected]
    for (_, said), (_, asked) in zip(answers, expected, strict=True):
        assert "error" in said if asked is None else models.right(said["predictions"], asked)


def split_answers(said: bytes) -> list[tuple[str, dict[str, list[list[float]]]]]:
    """Request id and JSON of every answer on a connection, in order."""
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        found.append((fields[b"x-request-id"].decode(), json.loads(rest[:length])))
        said = rest[length:]
    return found


def test_a23_a_hundred_streams_of_one_http2_connection_each_get_their_own_answer(watch: Watch) -> None:
    images = {2 * n + 1: models.rows(n) for n in range(100)}
    with watch.connect(60) as wire:
        said = talk_http2(
            wire, {stream: json.dumps({"instances": i.tolist()}).encode() for stream, i in images.items()}
        )
    assert said.keys() == images.keys()
    for stream, image in images.items():
        request_id, body = said[stream]
        assert request_id == f"s{stream}"
        assert models.right(json.loads(body)["predictions"], image)


def talk_http2(wire: socket.socket, bodies: dict[int, bytes]) -> dict[int, tuple[str, bytes]]:
    """Open every stream before any answer is read; then request id and body by stream."""
    talk = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    talk.initiate_connection()
    for stream, body in bodies.items():
        model = "slow" if stream % 50 == 1 else "quick"
        talk.send_headers(
            stream,
            [(":method", "POST"), (":scheme", "http"), (":authority", "t"), (":path", f"/v1/models/{model}:predict"),
             ("x-request-id", f"s{stream}"), ("content-length", str(len(body)))],
        )  # fmt: skip
    wire.sendall(talk.data_to_send())
    unsent = dict(bodies)
    ids: dict[int, str] = {}
    said: dict[int, bytearray] = {stream: bytearray() for stream in bodies}
    ended: set[int] = set()
    while len(ended) < len(bodies):
        for stream in sorted(unsent, reverse=True):  # bodies in the opposite order of the headers
            if len(unsent[stream]) <= talk.local_flow_control_window(stream):
                talk.send_data(stream, unsent.pop(stream), end_stream=True)
        wire.sendall(talk.data_to_send())
        for event in talk.receive_data(wire.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                ids[event.stream_id] = {str(name): str(value) for name, value in event.headers}["x-request-id"]
            elif isinstance(event, h2.events.DataReceived):
                said[event.stream_id] += event.data
                talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
            else:
                assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated), event
    return {stream: (ids[stream], bytes(said[stream])) for stream in bodies}
