"""gRPC callers of an Envoy under test: grpcio with bytes instead of generated classes, and messages to send."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from contracts.protos import HEALTH_SERVICE, INFERENCE_SERVICE, MODEL_SERVICE, PREDICTION_SERVICE
from router.messages import message

PREDICT = f"/{PREDICTION_SERVICE}/Predict"
INFER = f"/{INFERENCE_SERVICE}/ModelInfer"
STATUS = f"/{MODEL_SERVICE}/GetModelStatus"
INDEX = f"/{INFERENCE_SERVICE}/RepositoryIndex"
HEALTH = f"/{HEALTH_SERVICE}/Check"


@dataclass(frozen=True)
class Answer:
    """`code` is gRPC's name, OK with a body; `words` the sentence of an error; `headers` whatever came beside it."""

    code: str
    body: bytes = b""
    words: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def said(self) -> Any:
        """What a FakeWorker answered."""
        return json.loads(self.body)

    def read(self, name: str) -> Any:
        return message(name).FromString(self.body)


@dataclass(frozen=True)
class Caller:
    channel: grpc.aio.Channel

    async def call(self, method: str, sent: Any = b"", **options: Any) -> Answer:
        """One unary call; `sent` is bytes or a message; `options` are grpcio's: timeout, metadata, compression."""
        body = sent if isinstance(sent, bytes) else sent.SerializeToString()
        call = self.channel.unary_unary(method)(body, **{"timeout": 20, **options})
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            # An error is headers alone, which gRPC's core takes for trailers.
            beside = dict([*error.initial_metadata(), *error.trailing_metadata()])
            return Answer(error.code().name, words=error.details() or "", headers=beside)
        return Answer("OK", answer, headers=dict(await call.initial_metadata()))


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Caller]:
    """On a connection of its own; gRPC would otherwise put all channels of one process on one."""
    limits = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    options = [("grpc.use_local_subchannel_pool", 1), *((name, -1) for name in limits)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield Caller(channel)


def spec(name: str, version: int | None = None, label: str | None = None) -> Any:
    made = message("tensorflow.serving.ModelSpec", name=name, signature_name="serving_default")
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def predict(name: str, version: int | None = None, label: str | None = None) -> Any:
    return message("tensorflow.serving.PredictRequest", model_spec=spec(name, version, label))


def status(name: str, version: int | None = None, label: str | None = None) -> Any:
    return message("tensorflow.serving.GetModelStatusRequest", model_spec=spec(name, version, label))


def infer(name: str, version: str = "", **more: Any) -> Any:
    return message("inference.ModelInferRequest", model_name=name, model_version=version, **more)


def frame(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))
