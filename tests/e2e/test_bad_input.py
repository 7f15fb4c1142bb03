"""Bad input of every kind: a clear error that names what was expected and what came, and nobody else notices."""

import contextlib
import gzip
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.gateway import Gateway, call, free_port, running

pytestmark = pytest.mark.e2e

ROW = [0.5] * 64


@pytest.fixture(scope="module")
def shared(seed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = Path(shutil.copytree(seed_home, tmp_path_factory.mktemp("bad") / "home"))
    with running(home) as up:
        up.must("deploy", "digits", "1")
        yield up


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("malformed", b'{"instances": [', 400, ["JSON"]),
        ("empty body", b"", 400, []),
        ("not an object", b"[1,2]", 400, ["object"]),
        ("neither form", b"{}", 400, ["instances", "inputs"]),
        ("both forms", {"instances": [ROW], "inputs": [ROW]}, 400, ["instances", "inputs"]),
        ("wrong shape", {"instances": [[0.5] * 63]}, 400, ["64", "63"]),
        ("wrong dtype", {"instances": [["a"] * 64]}, 400, ["float32"]),
        ("null", {"instances": [[None] * 64]}, 400, []),
        ("ragged rows", {"instances": [ROW, [0.5] * 63]}, 400, ["64"]),
        ("too deep", b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, ["deep"]),
        ("unknown signature", {"signature_name": "nope", "instances": [ROW]}, 400, ["nope"]),
    ],
)
def test_a_bad_body_is_refused_with_what_was_expected(
    shared: Gateway, name: str, body: Any, status: int, words: list[str]
) -> None:
    answer = shared.predict(body)
    assert answer.status == status, (name, answer.body[:300])
    assert answer.headers["content-type"].startswith("application/json")
    sentence = answer.json["error"]
    for word in words:
        assert word in sentence, (name, sentence)
    assert "Traceback" not in sentence
    assert str(shared.home) not in sentence
    assert answer.headers["x-teal-model"] == "digits"
    assert shared.predict({"instances": [ROW]}).status == 200


@pytest.mark.parametrize(
    ("tensor", "status"),
    [
        ({"shape": [2147483647, 2147483647], "datatype": "FP32", "data": []}, 400),
        ({"shape": [-1, 64], "datatype": "FP32", "data": ROW}, 400),
        ({"shape": [True, 64], "datatype": "FP32", "data": ROW}, 400),
        ({"shape": [1.0, 64], "datatype": "FP32", "data": ROW}, 400),
        ({"shape": [1, 63], "datatype": "FP32", "data": ROW}, 400),
        ({"shape": [1] * 65, "datatype": "FP32", "data": [1]}, 400),
        ({"shape": [1, 64], "datatype": "INT64", "data": [1] * 64}, 400),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_without_allocating(
    shared: Gateway, tensor: dict[str, Any], status: int
) -> None:
    name = shared.predict_metadata()["inputs"][0]["name"]
    answer = shared.predict({"inputs": [{"name": name, **tensor}]}, "/v2/models/digits/infer")
    assert answer.status == status, answer.body
    assert name in answer.json["error"] or "shape" in answer.json["error"]


def test_nan_travels_as_a_bare_token_like_in_tensorflow_serving(shared: Gateway) -> None:
    answer = shared.predict(b'{"instances": [[' + b",".join([b"NaN"] * 64) + b"]]}")
    assert answer.status == 200
    assert b"null" not in answer.body
    assert all(np.isnan(v) for v in json.loads(answer.body)["predictions"][0])


def test_a_body_over_the_limit_is_refused(shared: Gateway) -> None:
    answer_status = _post_large(shared, 17 * 1024 * 1024)
    assert answer_status == 413
    assert shared.predict({"instances": [ROW]}).status == 200


def _post_large(gateway: Gateway, size: int) -> int:
    """The server may close before all of the body is sent, so read the status as soon as it is there."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        head = f"POST /v1/models/digits:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
        wire.sendall(head.encode())
        return int(wire.recv(4096).split()[1])


def test_a_body_without_a_length_is_413_however_far_past_the_limit_it_runs(shared: Gateway) -> None:
    assert [_post_endless(shared, 40 * 1024 * 1024) for _ in range(4)] == [413] * 4
    assert shared.predict({"instances": [ROW]}).status == 200


def _post_endless(gateway: Gateway, most: int) -> int:
    """Chunk after chunk until the gateway has had enough; then what it said."""
    piece = b"10000\r\n" + b"1," * 0x8000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        wire.sendall(b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # the answer comes first, then the connection ends
            for _ in range(most // 0x10000):
                wire.sendall(piece)
        return int(wire.recv(4096).split()[1])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/nope:predict", 404),
        ("POST", "/v1/models/digits2:predict", 404),
        ("POST", "/v1/models/digits/versions/99:predict", 404),
        ("POST", "/v1/models/digits/labels/nope:predict", 400),
        ("POST", "/v1/models/digits/versions/HELLO:predict", 400),
        ("POST", "/v1/models/digits/versions/1/labels/live:predict", 400),
        ("GET", "/v1/models/digits:predict", 400),
        ("POST", "/v1/models/digits/metadata", 400),
        ("GET", "/v1/models", 400),
        ("GET", "/metrics", 404),
        ("GET", "/worker", 404),
        ("GET", "/nope", 404),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/digits/versions/99/infer", 404),
    ],
)
def test_a_path_that_leads_nowhere_says_so_as_json(shared: Gateway, method: str, path: str, status: int) -> None:
    body = json.dumps({"instances": [ROW]}).encode() if method == "POST" else None
    answer = call(shared.url + path, body, method=method)
    assert answer.status == status, answer.body
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("percent", "why"),
    [
        ("-1", "weight -1 is out of range: expected a percentage from 0 to 100"),
        ("-0.01", "weight -0.01 is out of range"),
        ("101", "weight 101 is out of range"),
        ("abc", "weight 'abc' is not a number"),
        ("0.001", "weight 0.001 is too fine: the smallest step is 0.01 %"),
        ("nan", "weight nan is out of range"),
        ("-inf", "weight -inf is out of range"),
    ],
)
def test_an_impossible_weight_changes_nothing(shared: Gateway, percent: str, why: str) -> None:
    before = shared.status()
    ran = shared.teal("weight", "digits", percent)
    assert ran.code == 2, (ran.out, ran.err)
    assert why in ran.err
    assert "option" not in ran.err
    assert shared.status() == before


def test_deploying_what_does_not_exist_names_what_does(shared: Gateway) -> None:
    missing = shared.teal("deploy", "digits", "7")
    assert missing.code == 1
    assert "7" in missing.err
    assert "1, 2" in missing.err
    unknown = shared.teal("deploy", "cats")
    assert unknown.code == 1
    assert "cats" in unknown.err


@pytest.mark.parametrize(
    "damage", ["empty directory", "missing", "truncated graph", "no variables", "a text file", "not a model"]
)
def test_registering_a_broken_model_leaves_no_version(
    shared: Gateway, trained: Path, tmp_path: Path, damage: str
) -> None:
    source = tmp_path / "model"
    if damage == "empty directory":
        source.mkdir()
    elif damage == "a text file":
        source.write_text("hello")
    elif damage == "not a model":
        source = tmp_path / "model.keras"
        source.write_bytes(b"PK\x03\x04 not really")
    elif damage != "missing":
        shutil.copytree(trained / "dense", source)
        if damage == "truncated graph":
            graph = source / "saved_model.pb"
            graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
        else:
            shutil.rmtree(source / "variables")
    ran = shared.teal("register", "broken", str(source), timeout=300)
    assert ran.code == 1, (ran.out, ran.err)
    assert "Traceback" not in ran.err
    assert len(ran.err.strip().splitlines()) <= 3, ran.err
    assert shared.teal("models", "broken").code == 1
    assert shared.predict({"instances": [ROW]}).status == 200


def test_a_port_in_use_is_named_and_nothing_is_left_behind(shared: Gateway, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--home", str(tmp_path / "second")]
    for ports in (["--port", str(shared.port), "--admin-port", str(free_port())],
                  ["--port", str(free_port()), "--admin-port", str(shared.admin_port)]):  # fmt: skip
        ran = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 1, ran.stderr
        assert any(port in ran.stderr for port in ports)
        assert "Traceback" not in ran.stderr
    assert not Gateway(tmp_path / "second").processes()


def test_a_second_gateway_on_the_same_home_is_refused(shared: Gateway) -> None:
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--home", str(shared.home)]
    ports = ["--port", str(free_port()), "--admin-port", str(free_port())]
    ran = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode in (1, 2)
    assert "already" in ran.stderr
    assert shared.predict({"instances": [ROW]}).status == 200


def test_an_unreadable_content_encoding_is_refused(shared: Gateway) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    packed = call(shared.url + "/v1/models/digits:predict", gzip.compress(body), {"content-encoding": "gzip"})
    assert packed.status in (200, 415)
    unknown = call(shared.url + "/v1/models/digits:predict", body, {"content-encoding": "zstd-nope"})
    assert unknown.status == 415
