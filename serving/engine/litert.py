"""The litert plan: TensorFlow Lite with XNNPACK. Never imports TensorFlow.

Interpreters have fixed shapes, so there is one per bucket, allocated once; rows are padded up to the bucket by
repeating the last row, which is a row the model has to be able to compute anyway. Signatures are subgraphs of the same
interpreter, each with shapes of its own: two names for one function, which every Keras export has, cost its weights
once (measured: 16 MB of them, 88 MB of memory for both names in one interpreter as for one alone).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from contracts.errors import InvalidInput
from contracts.signature import Signature
from serving.engine.base import Array, Tensors
from serving.engine.tflite import entry

# XNNPACK packs the weights once more for every interpreter. Up to this much of copies, every bucket gets its own
# interpreter; a bigger model keeps a single one and changes its shape whenever another bucket's turn comes.
_PACKED_BYTES = 256 * 1024 * 1024


class LitertEngine:
    """Runs a .tflite file whose signature names and tensor aliases equal the SavedModel's it was made from.

    `buckets` ascend; `threads` is at least 1.
    Raises ValueError when the file does not load or lacks one of `signatures`.
    """

    plan = "litert"
    pads = True

    def __init__(self, path: Path, signatures: tuple[Signature, ...], buckets: tuple[int, ...], threads: int) -> None:
        self._path = path
        self._signatures = {s.name: s for s in signatures}
        self._buckets = buckets
        size = path.stat().st_size
        self._threads = threads
        self._shared = size * len(buckets) > _PACKED_BYTES
        self._interpreters: dict[int, list[_Opened]] = {}
        self._runs: dict[tuple[str, int], _Run] = {}
        for signature in signatures:
            self._run_for(signature.name, buckets[0])

    def warm(self, bucket: int) -> None:
        for signature in self._signatures.values():
            if signature.batched:
                run = self._run_for(signature.name, bucket)
                if (shapes := fixed_shapes(signature, bucket)) is not None:
                    run.allocate(shapes)

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        try:
            run = self._runs.get((signature, 0))
            if run is not None:
                return run(inputs, None)
            for array in inputs.values():
                rows = len(array)
                break
            bucket = bucket_for(rows, self._buckets)
            run = self._runs.get((signature, bucket)) or self._run_for(signature, bucket)
            return run(inputs, bucket)
        except RuntimeError as error:
            # The one thing LiteRT's operations say about a value instead of a shape (2.3): a table's index.
            if "out of bounds" not in str(error):
                raise
            raise InvalidInput("the model refuses this input: an index in it is beyond a table of the model") from error

    def close(self) -> None:
        self._runs.clear()
        self._interpreters.clear()

    def _run_for(self, name: str, bucket: int) -> "_Run":
        """The interpreter that runs `bucket` rows of a signature, made now if it is the first time."""
        signature = self._signatures[name]
        key = (name, bucket if signature.batched else 0)
        if (run := self._runs.get(key)) is None:
            run = self._runs[key] = self._make_run(signature, 0 if self._shared else key[1])
        return run

    def _make_run(self, signature: Signature, place: int) -> "_Run":
        """A run in the interpreter of `place`, or the one that is there already under another name for the same.

        Two names for the same tensors in different order, or for parts of one subgraph, would change each other's
        shapes unseen: those get an interpreter of their own.
        """
        opened = self._interpreters.setdefault(place, [])
        for interpreter in opened:
            made = _Run(interpreter.interpreter, signature)
            twin = interpreter.runs.get(made.subgraph)
            if twin is None:
                interpreter.runs[made.subgraph] = made
                return made
            if twin.tensors == made.tensors:
                return twin
        fresh = _Opened(Interpreter(model_path=str(self._path), num_threads=self._threads), {})
        opened.append(fresh)
        run = _Run(fresh.interpreter, signature)
        fresh.runs[run.subgraph] = run
        return run


def bucket_for(rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `rows`; ValueError when there is none."""
    for bucket in buckets:
        if rows <= bucket:
            return bucket
    raise ValueError(f"a run of {rows} rows is over the biggest bucket, {buckets[-1]}: split it first")


def fixed_shapes(signature: Signature, rows: int) -> tuple[tuple[int, ...], ...] | None:
    """Input shapes of a run of `rows`, or None when the signature leaves more than the row dimension open."""
    shapes = []
    for spec in signature.inputs:
        if spec.shape is None or any(d is None for d in spec.shape[1:]):
            return None
        shapes.append((rows, *(d for d in spec.shape[1:] if d is not None)))
    return tuple(shapes)


@dataclass(frozen=True)
class _Opened:
    """An interpreter and what runs in it, by subgraph."""

    interpreter: Interpreter
    runs: "dict[int, _Run]"


class _Run:
    """One subgraph of an interpreter bound to one signature.

    Speaks to the interpreter's inner wrapper, as its own SignatureRunner does: the public runner resizes and
    re-plans at every call, which triples the time of a small model's run (4.6 µs against 1.5 µs, ai-edge-litert 2.3).
    """

    def __init__(self, interpreter: Interpreter, signature: Signature) -> None:
        self._interpreter = interpreter
        self._wrapper: Any = interpreter._interpreter
        found = entry(interpreter, signature.name)
        self.subgraph = found.subgraph
        missing = [s.name for s in signature.inputs if s.name not in found.inputs]
        missing += [s.name for s in signature.outputs if s.name not in found.outputs]
        if missing:
            raise ValueError(f"signature {signature.name!r} of the litert plan lacks {', '.join(missing)}")
        self._inputs = tuple((s.name, int(found.inputs[s.name]["index"])) for s in signature.inputs)
        self._outputs = tuple((s.name, int(found.outputs[s.name]["index"])) for s in signature.outputs)
        self.tensors = (self._inputs, self._outputs)
        # One input and one output of the shape of the last run: the usual case, and the only one where the loops below
        # would cost as much as the model.
        single = len(self._inputs) == len(self._outputs) == 1
        self._only = (*self._inputs[0], self._outputs[0][1], self._outputs[0][0]) if single else None
        self._shapes: tuple[tuple[int, ...], ...] | None = None

    def allocate(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Plan memory for exactly these input shapes, in the signature's order."""
        if shapes == self._shapes:
            return
        self._shapes = None  # a failure half way leaves nothing that looks allocated
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            self._wrapper.ResizeInputTensor(index, np.array(shape, np.int32), False, self.subgraph)
        self._wrapper.AllocateTensors(self.subgraph)
        self._shapes = shapes

    def __call__(self, inputs: Tensors, bucket: int | None) -> dict[str, Array]:
        """Compute `inputs`, padded to `bucket` rows when there is one."""
        wrapper, subgraph = self._wrapper, self.subgraph
        if self._only is not None:
            name, index, result, answer = self._only
            array = inputs[name]
            if self._shapes == (array.shape,) and (bucket is None or bucket == len(array)):
                wrapper.SetTensor(index, array, subgraph)
                wrapper.Invoke(subgraph)
                return {answer: wrapper.GetTensor(result, subgraph)}
        arrays = [inputs[name] for name, _ in self._inputs]
        rows = bucket if bucket is None else len(arrays[0])
        if bucket is not None and rows != bucket:
            arrays = [pad(array, bucket) for array in arrays]
        shapes = tuple([array.shape for array in arrays])
        if shapes != self._shapes:
            self.allocate(shapes)
        for (_, index), array in zip(self._inputs, arrays, strict=True):
            wrapper.SetTensor(index, array, subgraph)
        wrapper.Invoke(subgraph)
        # GetTensor copies, so the answers stay the caller's when the next run overwrites the interpreter's memory.
        outputs = {name: wrapper.GetTensor(index, subgraph) for name, index in self._outputs}
        if rows == bucket:
            return outputs
        return {name: array[:rows] if len(array) == bucket else array for name, array in outputs.items()}


def pad(array: Array, rows: int) -> Array:
    """`array` with its last row repeated until there are `rows`."""
    padded = np.empty((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    padded[len(array) :] = array[-1]
    return padded
