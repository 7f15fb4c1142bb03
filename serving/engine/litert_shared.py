"""The litert plan for big models: LiteRT's compiled model, which can map its packed weights from a file that all
replicas share. Same kernels as the interpreter's, same answers to the bit. Never imports TensorFlow.

One compiled model serves all buckets: it takes another shape in 0.1 ms without packing anything again, where a second
interpreter would hold all weights once more (ai-edge-litert 2.3).
"""

import math
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import CpuOptions, Options
from ai_edge_litert.tensor_buffer import TensorBuffer

from contracts.signature import Signature
from serving.engine.base import Array, Tensors
from serving.engine.litert import bucket_for, fixed_shapes, pad


class SharedLitertEngine:
    """Runs a .tflite file that opening.py finds big and plain enough. `weights` is a file of packed weights that
    packing.py found, or the place to write it when there is none; None packs in private memory.

    Raises ValueError when the file lacks one of `signatures` and RuntimeError when LiteRT cannot compile it.
    """

    plan = "litert"
    pads = True

    def __init__(
        self,
        path: Path,
        signatures: tuple[Signature, ...],
        buckets: tuple[int, ...],
        threads: int,
        weights: Path | None = None,
    ) -> None:
        processor = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=str(weights) if weights else "")
        options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=processor)
        model = CompiledModel.from_file(str(path), options=options)
        self._signatures = {s.name: _Bound(model, s) for s in signatures}
        self._buckets = buckets
        self._shaped: tuple[str, int] | None = None
        self._shape(signatures[0].name, buckets[0])

    def warm(self, bucket: int) -> None:
        for name in self._signatures:
            self._shape(name, bucket)

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        bucket = bucket_for(rows, self._buckets)
        return self._shape(signature, bucket).run(inputs, rows, bucket)

    def close(self) -> None:
        self._signatures.clear()

    def _shape(self, name: str, bucket: int) -> "_Bound":
        """The signature, ready for `bucket` rows. Two names may share one graph, so only the last one shaped is."""
        bound = self._signatures[name]
        if self._shaped != (name, bucket):
            self._shaped = None  # a failure half way leaves nothing that looks ready
            bound.shape(bucket)
            self._shaped = (name, bucket)
        return bound


class _Bound:
    """A signature's place in the compiled model, and the buffers of its present shape."""

    def __init__(self, model: CompiledModel, signature: Signature) -> None:
        found = model.get_signature_list().get(signature.name)
        if found is None:
            raise ValueError(f"the .tflite file has no signature {signature.name!r}")
        self._model, self._signature = model, signature
        self._index = model.get_signature_index(signature.name)
        self._names = tuple(found["inputs"])
        if set(self._names) != {s.name for s in signature.inputs}:
            raise ValueError(f"signature {signature.name!r} of the .tflite file takes {', '.join(self._names)}")
        self._places = {name: place for place, name in enumerate(found["outputs"])}
        missing = [s.name for s in signature.outputs if s.name not in self._places]
        if missing:
            raise ValueError(f"signature {signature.name!r} of the .tflite file lacks {', '.join(missing)}")
        self._inputs: list[TensorBuffer] = []
        self._outputs: list[TensorBuffer] = []

    def shape(self, rows: int) -> None:
        shapes = fixed_shapes(self._signature, rows) or ()
        for spec, shape in zip(self._signature.inputs, shapes, strict=True):
            self._model.resize_input_tensor(self._names.index(spec.name), shape, self._index)
        self._inputs = self._model.create_input_buffers(self._index)
        self._outputs = self._model.create_output_buffers(self._index)

    def run(self, inputs: Tensors, rows: int, bucket: int) -> dict[str, Array]:
        for name, buffer in zip(self._names, self._inputs, strict=True):
            array = inputs[name]
            buffer.write(array if rows == bucket else pad(array, bucket))
        self._model.run_by_index(self._index, self._inputs, self._outputs)
        answers = {}
        for spec in self._signature.outputs:
            sizes = [size for size in (spec.shape or ())[1:] if size is not None]
            read = self._outputs[self._places[spec.name]].read(bucket * math.prod(sizes), np.float32)
            answers[spec.name] = read.reshape(bucket, *sizes)[:rows]
        return answers
