"""Runs every bucket of every signature before the first caller does, and measures what each costs."""

import logging
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from contracts.clock import Clock
from contracts.signature import Signature, TensorSpec
from serving.engine.base import NUMPY_DTYPES, Array, Engine
from serving.engine.samples import Samples

_log = logging.getLogger(__name__)
_TIMED_RUNS = 5

Costs = dict[tuple[str, int], float]


def warm_up(
    engine: Engine,
    signatures: Sequence[Signature],
    buckets: Sequence[int],
    samples: Mapping[str, Samples],
    clock: Clock,
) -> Costs:
    """Seconds of one run for every signature and bucket (bucket 1 for signatures whose rows are not joined).

    With samples from the package a failure is the package's and leaves as it is. A signature without samples is tried
    with zeros, which a model may rightly refuse: then it is left cold, with a line in the log.
    """
    for bucket in buckets:
        engine.warm(bucket)
    costs: Costs = {}
    for signature in signatures:
        sample = samples.get(signature.name)
        for bucket in buckets if signature.batched else (1,):
            inputs = _rows(signature, bucket, sample)
            try:
                costs[signature.name, bucket] = _measure(engine, signature.name, inputs, clock)
            except Exception:
                if sample is not None:
                    raise
                _log.warning("signature %s stays cold: it has no samples and refuses zeros", signature.name)
                break
    return costs


def _measure(engine: Engine, signature: str, inputs: dict[str, Array], clock: Clock) -> float:
    engine.run(signature, inputs)  # plans memory, packs weights, compiles: not what a run costs
    seconds = []
    for _ in range(_TIMED_RUNS):
        started = clock.monotonic()
        engine.run(signature, inputs)
        seconds.append(clock.monotonic() - started)
    return median(seconds)


def _rows(signature: Signature, rows: int, sample: Samples | None) -> dict[str, Array]:
    if sample is None:
        return {spec.name: _zeros(spec, rows if signature.batched else 1) for spec in signature.inputs}
    if not signature.batched:
        return dict(sample.inputs)
    return {name: array[np.arange(rows) % len(array)] for name, array in sample.inputs.items()}


def _zeros(spec: TensorSpec, rows: int) -> Array:
    dims = list(spec.shape or ())
    shape = [rows if i == 0 and d is None else (1 if d is None else d) for i, d in enumerate(dims)]
    if spec.dtype == "string":
        return np.full(shape, b"", object)
    return np.zeros(shape, NUMPY_DTYPES.get(spec.dtype, np.dtype("float32")))
