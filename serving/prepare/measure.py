"""Checks one loaded plan against the reference's answers at every batch size, and times it there.

The engine is the worker's own class, so what passes here is what will serve.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from contracts.machine import cores
from contracts.signature import Signature
from serving.engine.base import Engine
from serving.prepare.choose import fewest_threads
from serving.prepare.compare import FULL, Difference, Tolerance, compare, too_many_flips
from serving.prepare.rows import take
from serving.prepare.samples import Case, Monotonic, brief, run

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
LONGEST_RUN = 1.0  # seconds; a batch that takes longer is no help to anybody waiting in it
_BETWEEN = (3, 7)  # sizes between buckets: a plan that pads must cut the padding off again
_FEW = (1, 3, 8)
_TIMED_RUNS = (3, 25)  # fewest and most runs per size, as long as the fewest do not take _ENOUGH_SECONDS
_TIMED_SECONDS = 0.1  # spent per size
_ENOUGH_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """`wrong` says why the plan must not serve, None when every answer was right. `seconds` is per run, by size, with
    `threads` threads; `by_threads` has them for every number of threads that was tried."""

    difference: Difference = field(default_factory=Difference)
    rows_checked: int = 0
    seconds: Mapping[int, float] = field(default_factory=dict)
    threads: int | None = None
    by_threads: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    @property
    def wrong(self) -> str | None:
        return self.difference.wrong


Cases = Mapping[str, tuple[Case, ...]]


def measure_threads(
    open_engine: Callable[[int], Engine],
    signatures: tuple[Signature, ...],
    cases: Cases,
    monotonic: Monotonic,
    tolerance: Tolerance = FULL,
) -> Measured:
    """`measure` with one thread and with all cores; what is kept is the fewest threads that are worth it."""
    tried: dict[int, Measured] = {}
    for threads in sorted({1, cores()}):
        engine = open_engine(threads)
        tried[threads] = measure(engine, signatures, cases, monotonic, tolerance)
        engine.close()
        if tried[threads].wrong is not None:
            return tried[threads]
    best = fewest_threads({threads: found.seconds for threads, found in tried.items()})
    return Measured(
        sum((found.difference for found in tried.values()), start=Difference()),
        sum(found.rows_checked for found in tried.values()),
        tried[best].seconds,
        threads=best if tried[best].seconds else None,
        by_threads={threads: found.seconds for threads, found in tried.items() if found.seconds},
    )


def measure(
    engine: Engine,
    signatures: tuple[Signature, ...],
    cases: Cases,
    monotonic: Monotonic,
    tolerance: Tolerance = FULL,
) -> Measured:
    """Check a plan that is not the reference: the main signature at every batch size, the others (often the same
    function under another name) and other sizes of open dimensions at few. Then time it."""
    main = _main(signatures, cases)
    found = _check_all(engine, signatures, cases, tolerance, lambda s, i: _sizes(s, s is main and i == 0))
    return found if found.wrong is not None else replace(found, seconds=_time(engine, signatures, cases, monotonic))


def measure_reference(
    engine: Engine, signatures: tuple[Signature, ...], cases: Cases, monotonic: Monotonic
) -> Measured:
    """Time the reference, and see that it answers its own cases as it did before."""
    found = _check_all(engine, signatures, cases, FULL, lambda _signature, _case: ())
    return found if found.wrong is not None else replace(found, seconds=_time(engine, signatures, cases, monotonic))


def _sizes(signature: Signature, thoroughly: bool) -> tuple[int, ...]:
    if not signature.batched:
        return ()
    return (*BATCH_SIZES, *_BETWEEN) if thoroughly else _FEW


def _check_all(
    engine: Engine,
    signatures: tuple[Signature, ...],
    cases: Cases,
    tolerance: Tolerance,
    sizes: Callable[[Signature, int], tuple[int, ...]],
) -> Measured:
    """Stops at the first wrong answer. `sizes` of a signature's n-th case; none means the case as it is."""
    difference, rows_checked = Difference(), 0
    for signature in signatures:
        for i, case in enumerate(cases[signature.name]):
            for call in _resized(case, sizes(signature, i)):
                found = _check(engine, signature, call, tolerance)
                difference, rows_checked = difference + found, rows_checked + _rows(call)
                if found.wrong is not None:
                    wrong = f'signature "{signature.name}", {_rows(call)} rows: {found.wrong}'
                    return Measured(replace(difference, wrong=wrong), rows_checked)
    return Measured(replace(difference, wrong=too_many_flips(difference, rows_checked, tolerance)), rows_checked)


def _check(engine: Engine, signature: Signature, call: Case, tolerance: Tolerance) -> Difference:
    try:
        return compare(call.outputs, run(engine, signature, call.inputs), tolerance)
    except Exception as error:  # the runtime's own errors: any of them rules this plan out, none the model
        return Difference(wrong=f"does not run: {brief(error)}")


def _resized(case: Case, sizes: tuple[int, ...]) -> list[Case]:
    """The case with so many of its rows, over and over if it has fewer."""
    if not sizes:
        return [case]
    picks = [np.arange(size) % _rows(case) for size in sizes]
    return [Case(take(case.inputs, pick), take(case.outputs, pick)) for pick in picks]


def _rows(case: Case) -> int:
    """Rows of the case, one when it has none."""
    return max((len(array) for array in case.inputs.values() if array.ndim), default=1)


def _main(signatures: tuple[Signature, ...], cases: Cases) -> Signature | None:
    """The first batched signature that has cases, else the first that has: the one that is timed."""
    having = sorted((s for s in signatures if cases[s.name]), key=lambda s: not s.batched)
    return having[0] if having else None


def _time(engine: Engine, signatures: tuple[Signature, ...], cases: Cases, monotonic: Monotonic) -> dict[int, float]:
    signature = _main(signatures, cases)
    if signature is None:
        return {}
    case = cases[signature.name][0]
    if not signature.batched:
        return {1: _median(engine, signature, case, monotonic)}
    seconds: dict[int, float] = {}
    for size, resized in zip(BATCH_SIZES, _resized(case, BATCH_SIZES), strict=True):
        median = _median(engine, signature, resized, monotonic)
        if seconds and median > LONGEST_RUN:
            break
        seconds[size] = median
    return seconds


def _median(engine: Engine, signature: Signature, case: Case, monotonic: Monotonic) -> float:
    fewest, most = _TIMED_RUNS
    taken: list[float] = []
    engine.run(signature.name, case.inputs)  # shapes planned, caches filled
    while len(taken) < fewest or (len(taken) < most and sum(taken) < _TIMED_SECONDS):
        started = monotonic()
        engine.run(signature.name, case.inputs)
        taken.append(monotonic() - started)
        if sum(taken) > _ENOUGH_SECONDS:
            break
    return statistics.median(taken)
