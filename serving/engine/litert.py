"""The litert plan: TensorFlow Lite with XNNPACK. Never imports TensorFlow.

Interpreters have fixed shapes, so there is one per signature and bucket, allocated once; rows are padded up to the
bucket by repeating the last row, which is a row the model has to be able to compute anyway.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from contracts.signature import Signature
from serving.engine.base import Array, Tensors, cores

# XNNPACK packs the weights once more for every interpreter. Up to this much of copies, every bucket gets its own
# interpreter; a bigger model keeps one per signature and changes its shape whenever another bucket's turn comes.
_PACKED_BYTES = 256 * 1024 * 1024

# Below this the work of one run is smaller than waking a second thread for it.
_ONE_THREAD_BYTES = 512 * 1024


class LitertEngine:
    """Runs a .tflite file whose signature names and tensor aliases equal the SavedModel's it was made from.

    `buckets` ascend; `threads` 0 takes one thread for a tiny model and all cores otherwise.
    Raises ValueError when the file does not load or lacks one of `signatures`.
    """

    plan = "litert"
    pads = True

    def __init__(self, path: Path, signatures: tuple[Signature, ...], buckets: tuple[int, ...], threads: int) -> None:
        self._path = path
        self._signatures = {s.name: s for s in signatures}
        self._buckets = buckets
        size = path.stat().st_size
        self._threads = threads or (1 if size < _ONE_THREAD_BYTES else cores())
        self._shared = size * len(buckets) * len(signatures) > _PACKED_BYTES
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
        run = self._runs.get((signature, 0))
        if run is not None:
            return run(inputs, None)
        for array in inputs.values():
            rows = len(array)
            break
        bucket = bucket_for(rows, self._buckets)
        run = self._runs.get((signature, bucket)) or self._run_for(signature, bucket)
        return run(inputs, bucket)

    def close(self) -> None:
        self._runs.clear()

    def _run_for(self, name: str, bucket: int) -> "_Run":
        """The interpreter that runs `bucket` rows of a signature, made now if it is the first time."""
        signature = self._signatures[name]
        key = (name, bucket if signature.batched else 0)
        if (run := self._runs.get(key)) is None:
            if self._shared:
                run = next((r for (other, _), r in self._runs.items() if other == name), None)
            run = self._runs[key] = run or _Run(self._path, signature, self._threads)
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


class _Run:
    """One interpreter bound to one signature.

    Speaks to the interpreter's inner wrapper, as its own SignatureRunner does: the public runner resizes and
    re-plans at every call, which triples the time of a small model's run (4.6 µs against 1.5 µs, ai-edge-litert 2.3).
    """

    def __init__(self, path: Path, signature: Signature, threads: int) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        runner = self._interpreter.get_signature_runner(signature.name)
        self._wrapper: Any = self._interpreter._interpreter
        self._subgraph: int = runner._subgraph_index
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        missing = [s.name for s in signature.inputs if s.name not in inputs]
        missing += [s.name for s in signature.outputs if s.name not in outputs]
        if missing:
            raise ValueError(f"signature {signature.name!r} of the litert plan lacks {', '.join(missing)}")
        self._inputs = tuple((s.name, int(inputs[s.name]["index"])) for s in signature.inputs)
        self._outputs = tuple((s.name, int(outputs[s.name]["index"])) for s in signature.outputs)
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
            self._wrapper.ResizeInputTensor(index, np.array(shape, np.int32), False, self._subgraph)
        self._wrapper.AllocateTensors(self._subgraph)
        self._shapes = shapes

    def __call__(self, inputs: Tensors, bucket: int | None) -> dict[str, Array]:
        """Compute `inputs`, padded to `bucket` rows when there is one."""
        wrapper, subgraph = self._wrapper, self._subgraph
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
            arrays = [_pad(array, bucket) for array in arrays]
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


def _pad(array: Array, rows: int) -> Array:
    padded = np.empty((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    padded[len(array) :] = array[-1]
    return padded
