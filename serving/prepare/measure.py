"""Checks one loaded plan against the reference's answers at every batch size, and times it there.

The engine is the worker's own class, so what passes here is what will serve.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from contracts.signature import Signature
from serving.engine.base import Engine
from serving.prepare.compare import Difference, compare
from serving.prepare.rows import take
from serving.prepare.samples import Case, brief, run

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
LONGEST_RUN = 1.0  # seconds; a batch that takes longer is no help to anybody waiting in it
_BETWEEN = (3, 7)  # sizes between buckets: a plan that pads must cut the padding off again
_TIMED_RUNS = (3, 25)  # fewest and most runs per size
_TIMED_SECONDS = 0.1  # spent per size


@dataclass(frozen=True)
class Measured:
    """`wrong` says why the plan must not serve, None when every answer was right. `seconds` is per run, by size."""

    difference: Difference = field(default_factory=Difference)
    rows_checked: int = 0
    seconds: Mapping[int, float] = field(default_factory=dict)

    @property
    def wrong(self) -> str | None:
        return self.difference.wrong


def measure(
    engine: Engine,
    signatures: tuple[Signature, ...],
    cases: Mapping[str, tuple[Case, ...]],
    monotonic: Callable[[], float],
) -> Measured:
    """Run every case of every signature; stop at the first wrong answer. Batched signatures run at all batch sizes,
    the others as their cases are. Sizes are timed on the first batched signature that has cases, else on the first."""
    difference, rows_checked = Difference(), 0
    for signature in signatures:
        for inputs, expected, rows in _calls(signature, cases[signature.name]):
            try:
                found = compare(expected, run(engine, signature, inputs))
            except Exception as error:  # the runtime's own errors: any of them rules this plan out, none the model
                found = Difference(wrong=f"does not run: {brief(error)}")
            difference, rows_checked = difference + found, rows_checked + rows
            if found.wrong is not None:
                reason = f'signature "{signature.name}", {rows} rows: {found.wrong}'
                wrong = Difference(difference.max_abs_error, difference.argmax_flips, reason)
                return Measured(wrong, rows_checked)
    return Measured(difference, rows_checked, _time(engine, signatures, cases, monotonic))


def _calls(
    signature: Signature, cases: tuple[Case, ...]
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]]:
    if not signature.batched:
        return [(dict(c.inputs), dict(c.outputs), _rows(c)) for c in cases]
    calls = []
    for i, case in enumerate(cases):
        # Other sizes of open dimensions are checked at few batch sizes: each is a new shape to plan for.
        for size in (*BATCH_SIZES, *_BETWEEN) if i == 0 else (1, *_BETWEEN):
            pick = np.arange(size) % _rows(case)
            calls.append((take(case.inputs, pick), take(case.outputs, pick), size))
    return calls


def _rows(case: Case) -> int:
    first = next(iter(case.inputs.values()))
    return len(first) if first.ndim else 1


def _time(
    engine: Engine,
    signatures: tuple[Signature, ...],
    cases: Mapping[str, tuple[Case, ...]],
    monotonic: Callable[[], float],
) -> dict[int, float]:
    timed = sorted((s for s in signatures if cases[s.name]), key=lambda s: not s.batched)
    if not timed:
        return {}
    signature, case = timed[0], cases[timed[0].name][0]
    if not signature.batched:
        return {1: _median(engine, signature, case.inputs, monotonic)}
    seconds: dict[int, float] = {}
    for size in BATCH_SIZES:
        median = _median(engine, signature, take(case.inputs, np.arange(size) % _rows(case)), monotonic)
        if seconds and median > LONGEST_RUN:
            break
        seconds[size] = median
    return seconds


def _median(
    engine: Engine, signature: Signature, inputs: Mapping[str, np.ndarray], monotonic: Callable[[], float]
) -> float:
    fewest, most = _TIMED_RUNS
    taken: list[float] = []
    engine.run(signature.name, inputs)  # shapes planned, caches filled
    while len(taken) < fewest or (len(taken) < most and sum(taken) < _TIMED_SECONDS):
        started = monotonic()
        engine.run(signature.name, inputs)
        taken.append(monotonic() - started)
        if taken[-1] > LONGEST_RUN:
            break
    return statistics.median(taken)
