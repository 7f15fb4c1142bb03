"""Finds out whether a model's rows influence each other, by asking the model.

A batcher may join rows of strangers only when nobody's answer depends on who else is in the batch. Nothing in a
SavedModel says so; a normalisation over the batch looks like any other. So rows are run alone, in other company, in
another order, and beside extreme neighbours, and every row must keep its answer.
"""

from collections.abc import Callable, Mapping

import numpy as np

from contracts.signature import Signature, TensorSpec
from serving.engine.base import Array
from serving.prepare.compare import compare, compare_one

Run = Callable[[Mapping[str, Array]], dict[str, Array]]

_COMPANY = (1, 2, 3, 5, 8)  # batch sizes tried; odd ones too, where kernels work in blocks
_ALONE = 8  # rows tried alone
_ENOUGH = 16  # rows taken part at all: enough to meet each other, few enough for a slow model
_SEED = 7


def fixed_dimension(signature: Signature) -> str | None:
    """Why the declared shapes already rule out joining rows; None when they leave the first dimension free."""
    for role, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if (why := _not_free(spec)) is not None:
                return f'{role} "{spec.name}" {why}'
    return None if signature.inputs and signature.outputs else "it has no inputs or no outputs"


def _not_free(spec: TensorSpec) -> str | None:
    if spec.shape is None:
        return None  # unknown until run
    if not spec.shape:
        return "is a single value without rows"
    return None if spec.shape[0] is None else f"has a fixed first dimension of {spec.shape[0]}"


def influence(run: Run, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> str | None:
    """Why rows must not be joined, as a sentence; None when every row kept its answer.

    `outputs` are the model's for `inputs`, which share their number of rows. Whatever `run` raises on these very rows
    rises; what it raises on rows made up here counts for nothing.
    """
    rows = len(next(iter(inputs.values())))
    for name, array in outputs.items():
        if np.ndim(array) == 0 or len(array) != rows:
            return f'output "{name}" has shape {list(np.shape(array))} for {rows} rows'
    if (wrong := compare(outputs, run(inputs)).wrong) is not None:
        return f"the same rows got different answers when run twice ({wrong})"
    few = np.arange(min(rows, _ENOUGH))
    return _company(run, inputs, outputs, rows) or _neighbours(run, take(inputs, few), len(few))


def _company(run: Run, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> str | None:
    random = np.random.default_rng(_SEED)
    picks = [np.array([row]) for row in range(min(rows, _ALONE))]
    picks += [random.permutation(rows)[:size] for size in (*_COMPANY, min(rows, _ENOUGH)) if size <= rows]
    for pick in picks:
        got = run(take(inputs, pick))
        wrong = compare(take(outputs, pick), got).wrong
        if wrong is not None:
            return f"rows run {len(pick)} at a time got other answers than {rows} at a time ({wrong})"
    return None


def _neighbours(run: Run, inputs: Mapping[str, Array], rows: int) -> str | None:
    """The first rows must not notice neighbours that are zero, a thousand times bigger, or not numbers at all:
    a maximum over the batch shows only then."""
    floats = [name for name, array in inputs.items() if array.dtype.kind == "f"]
    if not floats or rows < 2:
        return None
    kept = slice(0, max(1, rows // 2))
    calm = None
    for factor in (0.0, 1000.0, -1000.0, np.nan):
        loud = {name: array.copy() for name, array in inputs.items()}
        for name in floats:
            with np.errstate(over="ignore"):
                loud[name][kept.stop :] = (loud[name][kept.stop :] * factor).astype(loud[name].dtype)
        try:
            answer = run(loud)
        except Exception:  # noqa: S112 - a model may refuse rows that nobody sent; that says nothing about rows
            continue
        seen = {name: array[kept] for name, array in answer.items()}
        if calm is None:
            calm = seen
        for name, array in seen.items():
            wrong = compare_one(name, calm[name], array).wrong
            if wrong is not None:
                return f"rows got other answers beside neighbours with extreme values ({wrong})"
    return None


def take(arrays: Mapping[str, Array], rows: Array) -> dict[str, Array]:
    """The named rows of every array, in that order."""
    return {name: array[rows] for name, array in arrays.items()}
