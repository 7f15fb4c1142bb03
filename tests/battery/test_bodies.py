"""Rows A1-A3, A6-A12, A14: bodies that are too big, too deep, lying about themselves or not what they say."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from contracts.limits import LIMITS, MIB
from tests.battery import models
from tests.battery.vitals import Watch, forget_peak, peak_rss, rss
from tests.e2e.gateway import Gateway

pytestmark = pytest.mark.e2e

PREDICT = b"POST /v1/models/quick:predict HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
ROW = models.rows(3).tolist()


def worker(gateway: Gateway, model: str = "quick") -> int:
    (pid,) = gateway.worker_pids(model=model)
    return pid


def refused(answer: Any, status: int, *words: str) -> None:
    assert answer.status == status, (answer.status, answer.body[:300])
    for word in words:
        assert word in answer.json["error"], answer.json


@pytest.mark.parametrize("length", [LIMITS.json_body + 1, 10 * LIMITS.json_body, 2**62])
def test_a1_a_declared_length_over_the_limit_is_413_before_the_body_is_read(watch: Watch, length: int) -> None:
    said = watch.raw(PREDICT + b"content-length: %d\r\n\r\n{" % length, timeout=15)  # and no more of it
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 "), said
    assert b"x-teal-model: quick" in head
    assert f"over the limit of {LIMITS.json_body} bytes" in json.loads(body)["error"]


def test_a2_a_body_without_a_length_is_413_at_the_limit_and_costs_no_more_than_it(watch: Watch) -> None:
    pid = worker(watch.gateway)
    for _ in range(3):
        before = rss(pid)
        forget_peak(pid)
        said = watch.raw(PREDICT + b"transfer-encoding: chunked\r\n\r\n", *endless(6 * LIMITS.json_body))
        assert said.startswith(b"HTTP/1.1 413 "), said[:300]
        assert peak_rss(pid) - before < 2.5 * LIMITS.json_body


def endless(most: int) -> Iterator[bytes]:
    piece = b"10000\r\n" + b"1," * 0x8000 + b"\r\n"
    return (piece for _ in range(most // 0x10000))


def test_a3_seventy_thousand_chunks_of_a_byte_cost_less_than_a_second(watch: Watch) -> None:
    body = json.dumps({"instances": ROW}).encode()
    body += b" " * (70_000 - len(body))
    pid = worker(watch.gateway)
    before = cpu_seconds(pid)
    pieces = PREDICT + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    said = watch.raw(pieces + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
    assert said.split()[1] in (b"200", b"400", b"413"), said[:300]
    assert cpu_seconds(pid) - before < 1.0


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":' + b"[" * 100_000,
        b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"instances":[[0.5]],"x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"x":' * 50_000 + b"1" + b"}" * 50_000,
        b"[" * 2_000_000,
        b'{"instances":[[NaN]],"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",  # read by the tolerant parser
    ],
    ids=["open lists", "lists", "an extra", "objects", "megabytes", "with NaN"],
)
@pytest.mark.parametrize("path", ["/v1/models/quick:predict", "/v2/models/quick/infer"])
def test_a6_depth_is_refused_without_recursion(watch: Watch, path: str, body: bytes) -> None:
    refused(watch.call(path, body), 400)


@pytest.mark.parametrize("how", ["pairs in v1", "pairs in v2", "one deep row", "a shape that does not fit"])
def test_a7_sixteen_mebibytes_that_do_not_fit_are_400_within_25_times_their_size(watch: Watch, how: str) -> None:
    numbers = b"0.1," * (LIMITS.json_body // 4 - 100)
    pairs = b"[0.1,0.1]," * (LIMITS.json_body // 10 - 100)
    head = b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1,64],"data":['
    body = {
        "pairs in v1": b'{"instances":[' + pairs[:-1] + b"]}",
        "pairs in v2": head + pairs[:-1] + b"]}]}",
        "one deep row": b'{"instances":[[[[[' + numbers[:-1] + b"]]]]]}",
        "a shape that does not fit": head + numbers[:-1] + b"]}]}",
    }[how]
    pid = worker(watch.gateway)
    forget_peak(pid)
    path = "/v1/models/quick:predict" if body.startswith(b'{"instances"') else "/v2/models/quick/infer"
    refused(watch.call(path, body), 400, "image")
    assert peak_rss(pid) - watch.before.rss[pid] < 25 * len(body)


@pytest.mark.parametrize(
    "shape",
    [
        [2147483647, 2147483647],
        [2**63 - 1],
        [1, 2**40],
        [2**32, 2**32],  # the product wraps to 0 in 64 bits
        [2**33, 2**31 + 1, 2],
    ],
)
def test_a8_a_giant_shape_is_400_and_allocates_nothing(watch: Watch, shape: list[int]) -> None:
    pid = worker(watch.gateway)
    forget_peak(pid)
    before = rss(pid)
    refused(watch.infer({"datatype": "FP32", "shape": shape, "data": []}), 400, "image")
    assert peak_rss(pid) - before < 8 * MIB


@pytest.mark.parametrize(
    "shape",
    ["[-1,64]", "[0,64]", "[1,0]", "[true,64]", "[1.0,64]", "[1e0,64]", "[1e400]", "[NaN,64]", '["1",64]', "[null]",
     "[[1],64]", "[]", "{}", "64", "null", str([1] * 65), "[1" + "0" * 400 + "]", "[-9223372036854775809,64]"],
)  # fmt: skip
def test_a9_what_is_no_shape_is_400(watch: Watch, shape: str) -> None:
    body = f'{{"inputs":[{{"name":"image","datatype":"FP32","shape":{shape},"data":{ROW[0]}}}]}}'
    refused(watch.call("/v2/models/quick/infer", body.encode()), 400)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"shape": [1, 64], "datatype": "FP32", "data": ROW[0][:63]}, ["image", "64", "63"]),
        ({"shape": [2, 64], "datatype": "FP32", "data": ROW[0]}, ["image", "128", "64"]),
        ({"shape": [1, 63], "datatype": "FP32", "data": ROW[0][:63]}, ["image", "[rows, 64]", "[1, 63]"]),
        ({"shape": [1, 64], "datatype": "FP64", "data": ROW[0]}, ["image", "FP32", "FP64"]),
        ({"shape": [1, 64], "datatype": "UINT8", "data": [300] * 64}, ["image", "FP32", "UINT8"]),
        ({"shape": [1, 64], "datatype": "FP32", "data": ["a"] * 64}, ["image", "float32", "text"]),
        ({"shape": [1, 64], "datatype": "FP32", "data": [1e39] * 64}, ["image", "float32", "out of range"]),
        ({"shape": [1, 64], "datatype": "FP32", "data": "AAAA"}, ["image", "list"]),
        ({"shape": [1, 64], "datatype": "FP32"}, ["image", "data"]),
    ],
)  # fmt: skip
def test_a10_a_tensor_that_is_not_what_was_expected_is_400_naming_both(
    watch: Watch, tensor: dict[str, Any], words: list[str]
) -> None:
    refused(watch.infer(tensor), 400, *words)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":["\xff\xfe"]}',
        b'{"instances":[{"b64":"not base64!"}]}',
        b'{"instances":[[' + b"1" * 400 + b"]]}",
        b"\x00\x01\x02",
        "{\"instances\":\"".encode("utf-16"),
    ],
)  # fmt: skip
def test_a10_bytes_that_are_no_text_are_400(watch: Watch, body: bytes) -> None:
    refused(watch.predict(body), 400)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_a11_what_is_not_finite_travels_as_tensorflow_serving_writes_it_and_never_as_null(
    watch: Watch, token: str
) -> None:
    body = f'{{"instances":[[{",".join([token] * models.WIDTH)}]]}}'.encode()
    answer = watch.predict(body)
    assert answer.status == 200
    assert b"null" not in answer.body
    assert not any(np.isfinite(answer.json["predictions"][0]))


def test_a11_on_v2_what_is_not_finite_is_400_in_and_out_because_json_has_no_such_number(watch: Watch) -> None:
    nan = b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1,64],"data":[' + b",".join([b"NaN"] * 64) + b"]}]}"
    refused(watch.call("/v2/models/quick/infer", nan), 400)
    text = json.dumps(
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "parameters": {"binary_data_size": 256}}]}
    ).encode()
    body = text + np.full(64, np.nan, "<f4").tobytes()
    headers = {"inference-header-content-length": str(len(text))}
    refused(watch.call("/v2/models/quick/infer", body, headers), 400, "scores", "finite")


BOMB_MIB = 1024


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A mebibyte that unpacks to a gibibyte."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(BOMB_MIB)), packer.flush()])


def test_a12_a_gzip_bomb_is_413_at_the_limit_of_what_it_unpacks_to(watch: Watch, bomb: bytes) -> None:
    assert len(bomb) < 1.1 * MIB
    pid = worker(watch.gateway)
    forget_peak(pid)
    before = rss(pid)
    refused(watch.predict(bomb, content_encoding="gzip"), 413, "limit")
    assert peak_rss(pid) - before < 2.5 * LIMITS.json_body


@pytest.mark.parametrize("encoding", ["br", "zstd", "br,gzip,gzip", "gzip, gzip", "gzip,identity,gzip", "x", ""])
def test_a12_an_encoding_nobody_reads_is_415(watch: Watch, encoding: str) -> None:
    body = gzip.compress(json.dumps({"instances": ROW}).encode())
    refused(watch.predict(body, content_encoding=encoding), 415, "gzip")


def test_a12_a_bomb_in_a_bomb_is_read_once(watch: Watch, bomb: bytes) -> None:
    refused(watch.predict(gzip.compress(bomb), content_encoding="gzip"), 400, "JSON")


@pytest.mark.parametrize("spoil", [lambda b: b[:-4], lambda b: b[:10], lambda b: b"x" + b, lambda b: b + b"tail"])
def test_a12_a_damaged_packing_is_400(watch: Watch, spoil: Any) -> None:
    body = gzip.compress(json.dumps({"instances": ROW}).encode())
    refused(watch.predict(spoil(body), content_encoding="gzip"), 400)


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b'{"instances":[[1]],"instances":[[2]]}', {400}),
        (b'{"signature_name":"a","signature_name":"serving_default","instances":[[2]]}', {400}),
        (b'{"instances":["\\ud800"]}', {400}),
        (b"\xef\xbb\xbf" + json.dumps({"instances": ROW}).encode(), {400}),
        (b'{"instances":[[' + b"1e999," * 63 + b"1e999]]}", {400}),
        (b'{"instances":[[' + b"-1e999," * 63 + b"-1e999]]}", {400}),
        (b'{"instances":[[01]]}', {400}),
        (b"{'instances':[[1]]}", {400}),
        (b'{"instances":[[1,]]}', {400}),
        # TensorFlow Serving reads one value and ignores what follows, and so do we.
        (json.dumps({"instances": ROW}).encode() + b"garbage", {200}),
    ],
)
def test_a14_what_json_leaves_open_is_decided_the_same_way_each_time(
    watch: Watch, body: bytes, statuses: set[int]
) -> None:
    assert {watch.predict(body).status for _ in range(3)} == statuses


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t + "garbage",
        lambda t: "\ufeff" + t,
        lambda t: t.replace('"inputs"', '"inputs":[],"inputs"'),
        lambda t: t.replace('"shape"', '"shape":[2,32],"shape"'),
        lambda t: t.replace("0.0", "1e999", 1),
        lambda t: t.replace('"image"', '"\\ud800"'),
    ],
    ids=["trailing", "byte order mark", "key twice", "key twice inside", "too big", "half a surrogate"],
)
def test_a14_v2_is_strict_json(watch: Watch, spoil: Any) -> None:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    refused(watch.call("/v2/models/quick/infer", spoil(json.dumps({"inputs": [tensor]})).encode()), 400)
