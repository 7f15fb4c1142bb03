"""The real Envoy: which request reaches whom, what every answer carries, what strangers cannot do."""

import asyncio
from dataclasses import replace

import pytest

from contracts.limits import LIMITS
from contracts.names import Color
from router.table import RoutingTable
from tests.router.gateway import Gateway, alone, backend, both, gateway, raw, table, until

pytestmark = pytest.mark.e2e

ONE, TWO, THREE = "digits v1", "digits v2", "digits.v2"

# (verb, path, status, who answers or what the sentence says)
PATHS = (
    ("POST", "/v1/models/digits:predict", 200, ONE),
    ("POST", "/v1/models/digits:classify", 200, ONE),
    ("POST", "/v1/models/digits:regress", 200, ONE),
    ("POST", "/v1/models/digits:predict?a=b", 200, ONE),
    ("POST", "//v1//models/digits:predict", 200, ONE),
    ("POST", "/v1/models/other/../digits:predict", 200, ONE),
    ("POST", "/v1/models/digits/versions/1:predict", 200, ONE),
    ("POST", "/v1/models/digits/versions/2:predict", 200, TWO),
    ("POST", "/v1/models/digits/versions/002:predict?x", 200, TWO),
    ("POST", "/v1/models/digits/labels/live:predict", 200, ONE),
    ("POST", "/v1/models/digits/labels/candidate:predict", 200, TWO),
    ("POST", "/v1/models/digits/labels/green:regress", 200, TWO),
    ("GET", "/v1/models/digits/metadata", 200, ONE),
    ("GET", "/v1/models/digits/versions/2/metadata", 200, TWO),
    ("GET", "/v1/models/digits/labels/candidate/metadata", 200, TWO),
    ("POST", "/v2/models/digits/infer", 200, ONE),
    ("POST", "/v2/models/digits/versions/2/infer", 200, TWO),
    ("GET", "/v2/models/digits", 200, ONE),
    ("GET", "/v2/models/digits?x=1", 200, ONE),
    ("GET", "/v2/models/digits/ready", 200, ONE),
    ("GET", "/v2/models/digits/versions/2", 200, TWO),
    ("GET", "/v2/models/digits/versions/2/ready", 200, TWO),
    ("POST", "/v1/models/digits.v2:predict", 200, THREE),
    ("POST", "/v2/models/digits.v2/infer", 200, THREE),
    ("GET", "/v1/models/digits", 200, "AVAILABLE"),
    ("GET", "/v1/models/digits?x=1", 200, "AVAILABLE"),
    ("GET", "/v1/models/digits/versions/2", 200, '"version": "2"'),
    ("GET", "/v1/models/digits/labels/candidate", 200, '"version": "1"'),
    ("GET", "/v2", 200, "binary_tensor_data"),
    ("GET", "/v2/health/live", 200, '"live": true'),
    ("GET", "/v2/health/ready", 200, '"ready": true'),
    ("POST", "/v1/models/digits2:predict", 404, "teal deploy"),
    ("POST", "/v1/models/digit:predict", 404, "teal deploy"),
    ("POST", "/v1/models/digits.v:predict", 404, "teal deploy"),
    ("POST", "/v1/models/DIGITS:predict", 404, "teal deploy"),
    ("GET", "/v1/models/digits2", 404, "teal deploy"),
    ("GET", "/v1/models/digits2/metadata", 404, "teal deploy"),
    ("POST", "/v1/models/nobody/versions/1:predict", 404, "teal deploy"),
    ("POST", "/v2/models/digits2/infer", 404, "teal deploy"),
    ("GET", "/v2/models/nobody/ready", 404, "teal deploy"),
    ("POST", "/v1/models/digits/versions/9:predict", 404, "deployed: 1, 2"),
    ("POST", "/v1/models/digits/versions/12:predict", 404, "deployed: 1, 2"),
    ("GET", "/v1/models/digits/versions/9", 404, "deployed: 1, 2"),
    ("GET", "/v1/models/digits/versions/9/metadata", 404, "deployed: 1, 2"),
    ("POST", "/v2/models/digits/versions/9/infer", 404, "deployed: 1, 2"),
    ("POST", "/v2/models/digits/versions/x/infer", 404, "deployed: 1, 2"),
    ("POST", "/v1/models/digits/labels/nope:predict", 400, "labels: blue, candidate, green, live"),
    ("POST", "/v1/models/digits/labels/lives:predict", 400, "labels: blue"),
    ("GET", "/v1/models/digits/labels/nope", 400, "labels: blue"),
    ("POST", "/v1/models/digits/versions/99999999999999999999:predict", 400, "malformed"),
    ("POST", "/v1/models/digits/versions/x:predict", 400, "malformed"),
    ("POST", "/v1/models/digits/versions/1/labels/live:predict", 400, "malformed"),
    ("POST", "/v1/models/digits:guess", 400, "malformed"),
    ("POST", "/v1/models/digits:predict/", 400, "malformed"),
    ("GET", "/v1/models/digits:predict", 400, "malformed"),
    ("DELETE", "/v1/models/digits", 400, "malformed"),
    ("POST", "/v1/models/digits/metadata", 400, "malformed"),
    ("GET", "/v1/models/digits/", 400, "malformed"),
    ("GET", "/v1/models/nobody/", 400, "malformed"),
    ("GET", "/v1/models", 400, "malformed"),
    ("GET", "/v1", 400, "malformed"),
    ("GET", "/v2/models/digits/infer", 405, "malformed"),
    ("POST", "/v2/models/digits/ready", 405, "malformed"),
    ("OPTIONS", "/v2/models/digits/versions/2", 405, "malformed"),
    ("DELETE", "/v2/models/nobody/infer", 405, "malformed"),
    ("POST", "/v1/models/digits:multiinference", 400, "malformed"),
    ("POST", "/v2/repository/index", 200, '"READY"'),
    ("POST", "/v2/repository/index?ready=true", 200, '"READY"'),
    ("GET", "/v2/repository/index", 405, "malformed"),
    ("POST", "/v2/repository/models/digits/unload", 501, "teal drain NAME"),
    ("GET", "/v2/repository", 404, "nothing is served here"),
    ("POST", "/inference.GRPCInferenceService/ServerLive", 404, "nothing is served here"),
    ("POST", "/v2", 405, "malformed"),
    ("GET", "/v2/models/digits/nope", 404, "malformed"),
    ("GET", "/metrics", 404, "nothing is served here"),
    ("GET", "/worker", 404, "nothing is served here"),
    ("GET", "/worker/answers", 404, "nothing is served here"),
    ("POST", "/worker/answers", 404, "nothing is served here"),
    ("GET", "/v1x", 404, "nothing is served here"),
    ("GET", "/", 404, "nothing is served here"),
)


async def three_models(g: Gateway) -> RoutingTable:
    one, two, three = [await g.worker(name) for name in (ONE, TWO, THREE)]
    digits = both("digits", backend(1, Color.BLUE, one), backend(2, Color.GREEN, two), 0)
    return table(digits, alone("digits.v2", backend(3, Color.GREEN, three)))


def test_every_path_reaches_whom_it_names_and_every_error_is_json_with_a_sentence() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            wrong = []
            for verb, path, status, words in PATHS:
                # Built by hand, since httpx would tidy the path up before Envoy can.
                answer = await g.client.request(verb, "/", extensions={"target": path.encode()})
                body = answer.json()
                said = answer.text if isinstance(body, list) else body.get("error", body.get("worker", answer.text))
                if answer.status_code != status or said is None or words not in said:
                    wrong.append(f"{verb} {path}: {answer.status_code} {answer.text}")
                assert answer.headers["content-type"] == "application/json"
                assert answer.headers["x-request-id"]
                assert answer.headers["server"] == "teal"
            assert wrong == []
            reached = {path for w in g.workers for _, path, _ in w.seen}
            assert not reached & {"/metrics", "/worker", "/worker/answers", "/"}

    asyncio.run(story())


def test_every_answer_of_a_known_model_names_who_answered() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            g.workers[1].behaviour.headers = {"x-teal-model": "liar", "x-teal-version": "99", "x-teal-color": "red"}
            expected = {
                "/v1/models/digits:predict": ("digits", "1", "blue"),
                "/v1/models/digits/versions/2:predict": ("digits", "2", "green"),
                "/v2/models/digits/versions/2/infer": ("digits", "2", "green"),
                "/v1/models/digits/versions/9:predict": ("digits", None, None),
                "/v1/models/digits/labels/nope:predict": ("digits", None, None),
                "/v1/models/digits:guess": ("digits", None, None),
                "/v1/models/digits2:predict": (None, None, None),
                "/v2/models/digits/ready": ("digits", None, None),
            }
            for path, who in expected.items():
                answer = await g.post(path)
                assert tuple(answer.headers.get(f"x-teal-{h}") for h in ("model", "version", "color")) == who, path

    asyncio.run(story())


def test_headers_only_envoy_may_set_do_not_pass_and_a_callers_request_id_does() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            answer = await g.post(
                "/v1/models/digits:predict",
                headers={
                    "x-envoy-upstream-rq-timeout-ms": "1",
                    "x-envoy-retry-on": "5xx",
                    "x-teal-model": "m",
                    "x-teal-version": "7",
                    "x-teal-color": "red",
                    "x-request-id": "mine",
                    "x-teal-key": "k",
                    "x-teal-timeout-ms": "500",
                },
            )
            assert answer.headers["x-request-id"] == "mine"
            ((_, _, seen),) = g.workers[0].seen
            assert not seen.keys() & {
                "x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on", "x-teal-model", "x-teal-version", "x-teal-color",
            }  # fmt: skip
            kept = (seen["x-request-id"], seen["x-teal-key"], seen["x-teal-timeout-ms"])
            assert kept == ("mine", "k", "500")

    asyncio.run(story())


def test_what_is_no_honest_request_is_refused_before_a_worker_sees_it() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            path = "/v1/models/digits:predict"
            many = {f"x-{n}": "1" for n in range(LIMITS.headers + 1)}
            assert (await g.post(path, headers={"x_under": "1"})).status_code == 400
            assert (await g.post(path, headers={"x-long": "a" * (LIMITS.header_bytes + 1)})).status_code == 431
            assert (await g.post(path, headers=many)).status_code == 431
            escaped = await g.client.post("/", extensions={"target": b"/v1/models%2Fdigits:predict"})
            assert escaped.status_code == 400
            both_lengths = b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n"
            assert (await raw(g, both_lengths + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")).startswith(
                "HTTP/1.1 400"
            )
            assert (await raw(g, b"nonsense\r\n\r\n")).startswith("HTTP/1.1 400")
            assert g.workers[0].seen == []

    asyncio.run(story())


def test_large_bodies_arrive_whole() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            for path, kind, size in (
                ("/v1/models/digits:predict", "application/json", 1 << 20),
                ("/v1/models/digits:predict", "application/json", LIMITS.json_body),
                ("/v1/models/digits:predict", "application/x-npy", LIMITS.binary_body),
                ("/v2/models/digits/infer", "application/octet-stream", LIMITS.json_body + (8 << 20)),
            ):
                answer = await g.post(path, content=b"x" * size, headers={"content-type": kind})
                assert (answer.status_code, answer.json()["length"]) == (200, size)

    asyncio.run(story())


def test_a_body_said_to_be_over_the_limit_is_413_at_once_and_no_worker_hears_of_it() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            for path, kind, limit in (
                ("/v1/models/digits:predict", "application/json", LIMITS.json_body),
                ("/v1/models/digits:predict", "Application/X-Npy; charset=none", LIMITS.binary_body),
                ("/v1/models/digits/versions/2:predict", "", LIMITS.json_body),
                ("/v2/models/digits/infer", "", LIMITS.binary_body),
                ("/v2/models/digits/versions/1/infer", "", LIMITS.binary_body),
            ):
                head = f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {limit + 1}\r\n"
                head += f"content-type: {kind}\r\n\r\n" if kind else "\r\n"
                said = await raw(g, head.encode() + b"x" * 1000)
                assert said.startswith("HTTP/1.1 413"), said
                assert "x-teal-model: digits\r\n" in said
                assert f"over the limit of {limit} bytes" in said
            assert all(w.seen == [] for w in g.workers)

    asyncio.run(story())


def test_http_1_0_is_spoken_with_and_without_a_host() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            for host in (b"", b"host: t\r\n"):
                sent = b"POST /v1/models/digits:predict HTTP/1.0\r\ncontent-length: 2\r\n" + host + b"\r\n{}"
                said = await raw(g, sent)
                assert said.split()[1] == "200", said
                assert "x-teal-version: 1" in said

    asyncio.run(story())


def test_a_gateway_without_models_says_that_it_is_up() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(RoutingTable())
            assert (await g.get("/v2/health/ready")).status_code == 200
            assert (await g.post("/v1/models/digits:predict")).status_code == 404

    asyncio.run(story())


def test_a_model_without_workers_is_loading_and_answers_503_with_retry_after() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE))))
            status = await g.get("/v1/models/digits")
            assert status.json()["model_version_status"][0]["state"] == "LOADING"
            for answer in (await g.post("/v1/models/digits:predict"), await g.get("/v2/health/ready")):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "error" in answer.json()
            assert (await g.post("/v1/models/digits:predict")).headers["x-teal-version"] == "1"

    asyncio.run(story())


def test_a_worker_that_takes_too_long_is_a_504_and_is_not_asked_twice() -> None:
    async def story() -> None:
        async with gateway(replace(LIMITS, request_seconds=0.2)) as g:
            slow, other = await g.worker("slow"), await g.worker("other")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, slow, other))))
            slow.behaviour.delay = other.behaviour.delay = 5
            answer = await g.post("/v1/models/digits:predict")
            assert (answer.status_code, answer.json()) == (504, {"error": "no answer within 0.2 seconds"})
            assert answer.headers["x-teal-version"] == "1"
            assert len(slow.seen) + len(other.seen) == 1

    asyncio.run(story())


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_what_a_worker_answers_is_passed_on_and_never_asked_again(status: int) -> None:
    async def story() -> None:
        async with gateway() as g:
            one, other = await g.worker("one"), await g.worker("other")
            await g.router.publish(table(alone("digits", backend(1, Color.BLUE, one, other))))
            one.behaviour.status = other.behaviour.status = status
            answer = await g.post("/v1/models/digits:predict")
            assert (answer.status_code, answer.json()["length"]) == (status, 2)
            assert "retry-after" not in answer.headers
            assert len(one.seen) + len(other.seen) == 1

    asyncio.run(story())


def test_http2_is_spoken_on_the_same_port() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)  # and an empty SETTINGS
            reader, writer = await asyncio.open_connection("127.0.0.1", g.config.port)
            writer.write(preface)
            async with asyncio.timeout(10):
                frame = await reader.readexactly(9)
            writer.close()
            assert frame[3] == 4  # SETTINGS

    asyncio.run(story())


def test_envoys_own_numbers_carry_model_version_and_color() -> None:
    async def story() -> None:
        async with gateway() as g:
            await g.router.publish(await three_models(g))
            await g.post("/v1/models/digits.v2:predict")
            labels = 'kind="predict",model="digits.v2",version="3",color="green"'

            async def counted() -> bool:
                lines = (await g.router.admin.prometheus()).decode().splitlines()
                mine = [line for line in lines if labels in line]
                total = [line for line in mine if line.startswith("envoy_cluster_upstream_rq_total{")]
                xx = [li for li in mine if li.startswith('envoy_cluster_upstream_rq_xx{envoy_response_code_class="2"')]
                time = [line for line in mine if line.startswith("envoy_cluster_upstream_rq_time_bucket{")]
                names = {line.split("{")[0] for line in lines}
                assert not any("digits" in name for name in names)
                found = [*total, *xx, *(line for line in time if 'le="+Inf"' in line)]
                return len(found) == 3 and all(line.endswith(" 1") for line in found) and 'le="2.5"' in str(time)

            await until(counted)  # Envoy gathers histograms every five seconds

    asyncio.run(story())
