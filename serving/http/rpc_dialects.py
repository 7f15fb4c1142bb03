"""The forms a prediction comes in over gRPC: dialects.py for protocol buffers."""

from collections.abc import Callable, Mapping
from functools import partial

from contracts.limits import Limits
from contracts.signature import Signature
from serving.batching.tickets import Outputs
from serving.codec import v1_proto, v1_proto_examples, v2_proto
from serving.codec.v1_examples import Method
from serving.codec.v1_proto_examples import Task
from serving.http.answers import Answer
from serving.http.incoming import Head
from serving.http.reading import Dialect, Reading
from serving.http.routes import Page
from serving.http.rpc import FRAME_BYTES, message_answer, unframed
from serving.state import Identity


class _Rpc:
    """One method: its message out of the frame, and what `reader` makes of it."""

    def __init__(self, reader: Callable[[memoryview], Reading], limits: Limits) -> None:
        self.body_limit = limits.binary_body + FRAME_BYTES
        self._most_bytes = limits.binary_body
        self._reader = reader

    def read(self, head: Head, body: bytes) -> Reading:
        del head
        return self._reader(unframed(body, self._most_bytes))


def rpc_dialects(identity: Identity, signatures: tuple[Signature, ...], limits: Limits) -> Mapping[Page, Dialect]:
    """The dialect of every page that computes."""
    methods = _Methods(identity, signatures)
    readers: dict[Page, Callable[[memoryview], Reading]] = {
        Page.V1_PREDICT: methods.predict,
        Page.V1_CLASSIFY: partial(methods.examples, Method.CLASSIFY),
        Page.V1_REGRESS: partial(methods.examples, Method.REGRESS),
        Page.V1_MULTI: methods.multi,
        Page.V2_INFER: methods.infer,
    }
    return {page: _Rpc(reader, limits) for page, reader in readers.items()}


class _Methods:
    def __init__(self, identity: Identity, signatures: tuple[Signature, ...]) -> None:
        self._model, self._version = identity.model, identity.version
        self._signatures = signatures
        self._v1, self._v2 = v1_proto.V1ProtoCodec(signatures), v2_proto.V2ProtoCodec(signatures)

    def predict(self, message: memoryview) -> Reading:
        predict = self._v1.read(message)
        return Reading(predict.signature, predict.inputs, predict.rows, partial(self._write_predict, predict))

    def examples(self, method: Method, message: memoryview) -> Reading:
        task = v1_proto_examples.read(self._signatures, method, message)
        return Reading(task.signature, task.inputs, task.rows, partial(self._write_task, task))

    def multi(self, message: memoryview) -> Reading:
        return self._next(v1_proto_examples.read_multi(self._signatures, message), ())

    def infer(self, message: memoryview) -> Reading:
        infer = self._v2.read(message)
        answer = partial(self._write_infer, infer)
        return Reading(infer.signature, infer.inputs, infer.rows, answer, infer.timeout, infer.priority)

    def _next(self, tasks: tuple[Task, ...], done: tuple[Outputs, ...]) -> Reading:
        """The first of several tasks that has no outputs yet."""
        task = tasks[len(done)]
        return Reading(task.signature, task.inputs, task.rows, partial(self._go_on, tasks, done))

    def _go_on(self, tasks: tuple[Task, ...], done: tuple[Outputs, ...], outputs: Outputs) -> Answer | Reading:
        done = (*done, outputs)
        if len(done) < len(tasks):
            return self._next(tasks, done)
        return message_answer(v1_proto_examples.write_multi(self._model, self._version, tasks, done))

    def _write_predict(self, predict: v1_proto.Predict, outputs: Outputs) -> Answer:
        return message_answer(v1_proto.write(self._model, self._version, predict, outputs))

    def _write_task(self, task: Task, outputs: Outputs) -> Answer:
        return message_answer(v1_proto_examples.write(self._model, self._version, task, outputs))

    def _write_infer(self, infer: v2_proto.Infer, outputs: Outputs) -> Answer:
        return message_answer(v2_proto.write(self._model, str(self._version), infer, outputs))
