"""The forms a prediction comes in: a dialect reads a body into arrays and knows how their outputs are written back.

One place per form, and app.py needs to know none of them. No clock, no queue and no socket in here.
"""

from collections.abc import Mapping
from functools import partial

from contracts.errors import UnsupportedMedia
from contracts.limits import Limits
from contracts.signature import Signature
from serving.batching.tickets import Outputs
from serving.codec import npy, v1, v1_examples, v2
from serving.http.answers import Answer, Header
from serving.http.incoming import NPY, Head, sends_image, sends_npy, wants_npy
from serving.http.pictures import Pictures
from serving.http.reading import Dialect, Reading
from serving.http.routes import Page
from serving.http.rpc import speaks_grpc
from serving.http.rpc_dialects import rpc_dialects
from serving.state import Identity

_JSON_LENGTH = v2.JSON_LENGTH.lower().encode()
_OCTETS = b"application/octet-stream"
_PICTURES = ("image/jpeg", "image/png")


class Dialects:
    """Every dialect of one loaded model, and which of them a request speaks."""

    def __init__(
        self,
        identity: Identity,
        signatures: tuple[Signature, ...],
        limits: Limits,
        pictures: Pictures | None = None,
    ) -> None:
        codec1, codec2 = v1.V1Codec(signatures), v2.V2Codec(signatures)
        writer = _V2Writer(identity)
        self._npy = _V1Npy(codec1, limits)
        self._binary = _V2Binary(codec2, writer, limits)
        self._image = V1Image(pictures, limits) if pictures is not None else None
        self._rpc = rpc_dialects(identity, signatures, limits)
        self._json: Mapping[Page, Dialect] = {
            Page.V1_PREDICT: _V1Json(codec1, self._npy, limits),
            Page.V1_CLASSIFY: _V1Examples(codec1, v1_examples.Method.CLASSIFY, limits),
            Page.V1_REGRESS: _V1Examples(codec1, v1_examples.Method.REGRESS, limits),
            Page.V2_INFER: _V2Json(codec2, writer, limits),
        }

    def spoken(self, page: Page, head: Head) -> "Dialect | V1Image":
        """The dialect of a request for `page`, which takes a body, from its headers alone. Raises UnsupportedMedia."""
        if speaks_grpc(head):
            return self._rpc[page]
        if page is Page.V2_INFER and _JSON_LENGTH in head:
            return self._binary
        if page is Page.V1_PREDICT and sends_npy(head):
            return self._npy
        if page is Page.V1_PREDICT and (kind := sends_image(head)) is not None:
            return self._for_image(kind)
        return self._json[page]

    def _for_image(self, kind: str) -> "V1Image":
        if kind not in _PICTURES:
            raise UnsupportedMedia(f"pictures are taken as {' and '.join(_PICTURES)}, got {kind[:40]}")
        if self._image is None:
            raise UnsupportedMedia(
                "this version does not say how a picture becomes its input: register it with --preprocessing (size, "
                "resize, channels, scale, mean, std), or send the pixels as JSON or application/x-npy"
            )
        return self._image


class _V1Json:
    """TensorFlow Serving's :predict in row and column form. It does not look at content types, so neither do we: an
    array as numpy saves it is known by how it starts."""

    def __init__(self, codec: v1.V1Codec, npy_dialect: "_V1Npy", limits: Limits) -> None:
        self.body_limit = limits.json_body
        self._codec = codec
        self._npy = npy_dialect

    def read(self, head: Head, body: bytes) -> Reading:
        if body[:1] == npy.START:
            return self._npy.read(head, body)
        predict = self._codec.read(body)
        return Reading(predict.signature, predict.inputs, predict.rows, partial(_write_v1, predict))


class _V1Npy:
    """One array as numpy saves it, in; the same or JSON out, as the caller likes."""

    def __init__(self, codec: v1.V1Codec, limits: Limits) -> None:
        self.body_limit = limits.binary_body
        self._codec = codec

    def read(self, head: Head, body: bytes) -> Reading:
        predict = self._codec.read_npy(body)
        answer = _write_npy if wants_npy(head) else partial(_write_v1, predict)
        return Reading(predict.signature, predict.inputs, predict.rows, answer)


class V1Image:
    """One JPEG or PNG as it is, for a model that declares how it becomes its input. Not a Dialect: decoding costs more
    than the event loop can spare."""

    def __init__(self, pictures: Pictures, limits: Limits) -> None:
        self.body_limit = limits.image_body
        self._pictures = pictures

    async def read_aside(self, body: bytes, seconds: float) -> Reading:
        """Raises what `Dialect.read` raises, and Overloaded, and DeadlineExceeded after `seconds`."""
        signature, spec = self._pictures.target.signature, self._pictures.target.input
        inputs = {spec.name: await self._pictures.read(body, seconds)}
        # One picture has one prediction, in row form wherever the outputs have rows at all.
        by_row = all(output.shape and output.shape[0] in (None, 1) for output in signature.outputs)
        return Reading(signature, inputs, 1, partial(_write_v1, v1.Predict(signature, inputs, 1, by_row)))


class _V1Examples:
    """TensorFlow Serving's :classify or :regress."""

    def __init__(self, codec: v1.V1Codec, method: v1_examples.Method, limits: Limits) -> None:
        self.body_limit = limits.json_body
        self._codec = codec
        self._method = method

    def read(self, head: Head, body: bytes) -> Reading:
        del head
        examples = self._codec.read_examples(body, self._method)
        return Reading(examples.signature, examples.inputs, examples.rows, partial(_write_examples, examples))


class _V2Json:
    """An infer request of the Open Inference Protocol, all of it JSON."""

    def __init__(self, codec: v2.V2Codec, writer: "_V2Writer", limits: Limits) -> None:
        self.body_limit = limits.json_body
        self._codec = codec
        self._writer = writer

    def read(self, head: Head, body: bytes) -> Reading:
        del head
        return self._writer.reading(self._codec.read(body))


class _V2Binary:
    """An infer request with binary tensors after its JSON."""

    def __init__(self, codec: v2.V2Codec, writer: "_V2Writer", limits: Limits) -> None:
        self.body_limit = limits.binary_body
        self._codec = codec
        self._writer = writer

    def read(self, head: Head, body: bytes) -> Reading:
        return self._writer.reading(self._codec.read_binary(body, head[_JSON_LENGTH]))


class _V2Writer:
    """Answers infer requests in the form each asked for."""

    def __init__(self, identity: Identity) -> None:
        self._model = identity.model
        self._version = str(identity.version)

    def reading(self, infer: v2.Infer) -> Reading:
        write = self._binary if infer.binary else self._json
        answer = partial(write, infer)
        return Reading(infer.signature, infer.inputs, infer.rows, answer, infer.timeout, infer.priority)

    def _json(self, infer: v2.Infer, outputs: Outputs) -> Answer:
        return Answer(200, v2.write(self._model, self._version, infer, outputs))

    def _binary(self, infer: v2.Infer, outputs: Outputs) -> Answer:
        body, length = v2.write_binary(self._model, self._version, infer, outputs)
        headers: tuple[Header, ...] = ((_JSON_LENGTH, b"%d" % length),)
        return Answer(200, body, _OCTETS, headers)


def _write_v1(predict: v1.Predict, outputs: Outputs) -> Answer:
    return Answer(200, v1.write(predict, outputs))


def _write_npy(outputs: Outputs) -> Answer:
    return Answer(200, v1.write_npy(outputs), NPY)


def _write_examples(examples: v1_examples.Examples, outputs: Outputs) -> Answer:
    return Answer(200, v1_examples.write(examples, outputs))
