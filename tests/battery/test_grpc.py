"""Rows B1-B6: gRPC messages that are too big, broken or lying, and HTTP/2 as no honest client speaks it."""

import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.errors
import numpy as np
import pytest

from contracts.limits import LIMITS, MIB
from contracts.metrics import BATCHES, REQUESTS
from tests.battery import models
from tests.battery.vitals import Watch, canary, forget_peak, peak_rss, rss, total
from tests.e2e.gateway import Gateway, eventually
from tests.serving.codec.calls import oip, tfs

pytestmark = pytest.mark.e2e

PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def channel(shared: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}", options=UNLIMITED) as opened:
        yield opened


def told(channel: grpc.Channel, path: str, message: bytes, timeout: float = 30) -> tuple[str, str]:
    """Code and sentence of a call with exactly these bytes."""
    try:
        channel.unary_unary(path)(message, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def predict_request(image: np.ndarray, model: str = "quick") -> Any:
    request = tfs("PredictRequest")()
    request.model_spec.name = model
    tensor = request.inputs["image"]
    tensor.dtype = 1
    for size in image.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = image.tobytes()
    return request


def infer_request(raw: bytes | None, shape: tuple[int, ...] = (1, 64), model: str = "quick") -> Any:
    request = oip("ModelInferRequest")()
    request.model_name = model
    request.inputs.add(name="image", datatype="FP32", shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def worker(gateway: Gateway, model: str = "quick") -> int:
    (pid,) = gateway.worker_pids(model=model)
    return pid


def test_b1_a_message_over_the_limit_is_resource_exhausted_and_is_not_kept(watch: Watch, channel: grpc.Channel) -> None:
    # Envoy 1.40 keeps the room of one such message, and of no more when others follow.
    watch.slack += LIMITS.binary_body
    pid = worker(watch.gateway)
    forget_peak(pid)
    before = rss(pid)
    huge = infer_request(bytes(LIMITS.binary_body + MIB)).SerializeToString()
    code, _ = told(channel, INFER, huge)
    assert code == "RESOURCE_EXHAUSTED"
    assert peak_rss(pid) - before < 2.5 * LIMITS.binary_body


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def nested(depth: int) -> bytes:
    """Field 1 in field 1 in field 1 …"""
    inner = b""
    for _ in range(depth):
        inner = field(1, inner)
    return inner


GOOD = predict_request(models.rows(3)).SerializeToString()
GOOD_INFER = infer_request(models.rows(3).tobytes()).SerializeToString()
BROKEN = {
    "cut off": GOOD[:-3],
    "a length beyond the end": field(1, b"quick")[:-2],
    "an endless varint": b"\xff" * 40,
    "wire type 7": b"\x0f\x00",
    "a group without an end": b"\x0b" * 1000,
    "nested 20,000 deep": nested(20_000),
    "nested groups": b"\x0b" * 50_000 + b"\x0c" * 50_000,
    "no UTF-8 as the name": field(1, field(1, b"\xff\xfe")),
    "nothing": b"",
}


@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_b2_what_is_no_message_is_refused(watch: Watch, channel: grpc.Channel, path: str) -> None:
    for name, message in BROKEN.items():
        code, sentence = told(channel, path, message)
        assert code in ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"), (name, code, sentence)
        assert sentence, name
        watch.heard.append(sentence)


def test_b2_ten_megabytes_of_unknown_fields_are_passed_over_or_refused(watch: Watch, channel: grpc.Channel) -> None:
    for path, good in ((PREDICT, GOOD), (INFER, GOOD_INFER)):
        code, sentence = told(channel, path, good + field(15_000, b"x") * (10 * MIB // 5))
        assert code in ("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), (path, code, sentence)


def test_b3_raw_contents_that_do_not_fit_name_the_tensor(watch: Watch, channel: grpc.Channel) -> None:
    both = infer_request(models.rows(3).tobytes())
    both.inputs[0].contents.fp32_contents.extend([0.5] * 64)
    lying = {
        "too short": infer_request(bytes(255)),
        "too long": infer_request(bytes(260)),
        "none": infer_request(None),
        "two": infer_request(bytes(256)),
        "raw and typed": both,
        "a giant shape": infer_request(b"", (2**31 - 1, 2**31 - 1)),
        "a negative shape": infer_request(bytes(256), (-1, 64)),
        "a shape that wraps": infer_request(b"", (2**32, 2**32)),
    }
    lying["two"].raw_input_contents.append(bytes(256))
    pid = worker(watch.gateway)
    forget_peak(pid)
    before = rss(pid)
    for name, request in lying.items():
        code, sentence = told(channel, INFER, request.SerializeToString())
        assert code == "INVALID_ARGUMENT", (name, code, sentence)
        assert "image" in sentence or "raw" in sentence, (name, sentence)
        watch.heard.append(sentence)
    assert peak_rss(pid) - before < 16 * MIB


def test_b3_a_tensor_whose_bytes_do_not_fit_its_shape_names_it(watch: Watch, channel: grpc.Channel) -> None:
    for content, shape in ((bytes(255), (1, 64)), (bytes(256), (2, 64)), (b"", (2**31, 2**31)), (bytes(256), (-1, 64))):
        request = predict_request(models.rows(3))
        tensor = request.inputs["image"]
        tensor.tensor_content = content
        for dim, size in zip(tensor.tensor_shape.dim, shape, strict=True):
            dim.size = size
        code, sentence = told(channel, PREDICT, request.SerializeToString())
        assert code == "INVALID_ARGUMENT", (shape, code, sentence)
        assert "image" in sentence, sentence


def http2() -> h2.connection.H2Connection:
    talk = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    talk.initiate_connection()
    return talk


def headers(path: str = "/v1/models/slow:predict") -> list[tuple[str, str]]:
    return [(":method", "POST"), (":scheme", "http"), (":authority", "t"), (":path", path)]


def rapid_resets(watch: Watch) -> str:
    """Ten thousand streams, each opened and taken back at once."""
    talk = http2()
    with watch.connect() as wire:
        try:
            wire.sendall(talk.data_to_send())
            for stream in range(1, 20_000, 2):
                talk.send_headers(stream, headers(), end_stream=False)
                talk.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                wire.sendall(talk.data_to_send())
            return "let it pass"
        except OSError:
            return "hung up"


def frame_flood(watch: Watch, frame: bytes) -> str:
    with watch.connect() as wire:
        try:
            wire.sendall(http2().data_to_send())
            for _ in range(200):
                wire.sendall(frame * 500)
            return "let it pass"
        except OSError:
            return "hung up"


PING = struct.pack(">I", 8)[1:] + b"\x06\x00" + bytes(4) + bytes(8)
SETTINGS = struct.pack(">I", 6)[1:] + b"\x04\x00" + bytes(4) + struct.pack(">HI", 4, 65535)
EMPTY_DATA = bytes(3) + b"\x00\x00" + struct.pack(">I", 1)
PRIORITY = struct.pack(">I", 5)[1:] + b"\x02\x00" + struct.pack(">I", 3) + struct.pack(">IB", 1, 16)


def test_b4_rapid_resets_are_hung_up_on_and_no_flood_of_frames_keeps_others_from_being_served(watch: Watch) -> None:
    with ThreadPoolExecutor(8) as pool:
        floods = {
            "rapid reset": pool.submit(rapid_resets, watch),
            "pings": pool.submit(frame_flood, watch, PING),
            "settings": pool.submit(frame_flood, watch, SETTINGS),
            "data of no stream": pool.submit(frame_flood, watch, EMPTY_DATA),
            "priorities": pool.submit(frame_flood, watch, PRIORITY),
        }
        served = [canary(watch.gateway, "quick") for _ in range(50)]
        ends = {name: flood.result() for name, flood in floods.items()}
    assert served == [True] * 50
    assert ends["rapid reset"] == "hung up", ends  # the others cost Envoy an answer at most, and may go on


def test_b5_a_storm_of_cancelled_calls_is_hardly_computed_and_leaves_nothing(
    watch: Watch, channel: grpc.Channel
) -> None:
    """5,000 calls for a model that does some eighty rows a second, each taken back as soon as it was sent."""
    (name,) = [w["id"] for w in watch.gateway.workers() if w["id"].startswith("slow-")]
    before = watch.gateway.worker_metrics(name)
    call = channel.unary_unary(PREDICT)
    message = predict_request(models.rows(3), "slow").SerializeToString()
    for _ in range(100):
        futures = [call.future(message, timeout=30) for _ in range(50)]
        for future in futures:
            future.cancel()

    def rise(metric: str, having: str = "") -> float:
        return total(watch.gateway.worker_metrics(name), metric, having) - total(before, metric, having)

    def quiet() -> bool:
        return total(watch.gateway.envoy_metrics(), "envoy_cluster_upstream_rq_active", '"slow"') == 0

    eventually("nothing is under way", quiet, 30)
    assert rise(REQUESTS.name, '"ok"') <= 0.05 * 5000
    assert rise(BATCHES.name) <= 0.05 * 5000


def test_b6_a_deadline_that_is_shorter_than_the_model_is_kept(watch: Watch, channel: grpc.Channel) -> None:
    (name,) = [w["id"] for w in watch.gateway.workers() if w["id"].startswith("slow-")]
    block = predict_request(models.rows(*range(64)), "slow").SerializeToString()
    small = predict_request(models.rows(3), "slow").SerializeToString()
    before = total(watch.gateway.worker_metrics(name), BATCHES.name)
    with ThreadPoolExecutor(40) as pool:
        busy = [pool.submit(told, channel, PREDICT, block) for _ in range(2)]
        late = [pool.submit(told, channel, PREDICT, small, 0.005) for _ in range(100)]
        assert Counter(answer.result()[0] for answer in busy) == {"OK": 2}
        codes = Counter(answer.result()[0] for answer in late)
    assert set(codes) <= {"DEADLINE_EXCEEDED", "UNAVAILABLE", "OK"}, codes
    assert codes["OK"] <= 5, codes
    assert codes["DEADLINE_EXCEEDED"] > 0, codes  # and UNAVAILABLE: refused at once, because it cannot be in time
    ran = total(watch.gateway.worker_metrics(name), BATCHES.name) - before
    assert ran <= 2 + 5 + codes["OK"], "who cannot be answered in time is not computed"
