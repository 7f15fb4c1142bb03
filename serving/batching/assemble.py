"""Joins callers' rows into one batch and cuts the answers apart again. Knows neither clocks nor futures."""

from collections.abc import Sequence

import numpy as np

from contracts.errors import Internal
from contracts.signature import Signature
from serving.engine.base import NUMPY_DTYPES, Array, Tensors


def join(parts: Sequence[Tensors]) -> dict[str, Array]:
    """One batch from several callers' inputs: same names, dtypes and row shapes, rows in the callers' order."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class WrongOutputs(Internal):
    """The model answered with something that its signature rules out: nobody can know what is whose."""


class Promise:
    """What a signature says about the outputs of each of its runs."""

    def __init__(self, signature: Signature) -> None:
        self._batched = signature.batched
        self._dtypes = {spec.name: NUMPY_DTYPES.get(spec.dtype) for spec in signature.outputs}

    def check(self, outputs: Tensors, rows: int) -> None:
        """Raise WrongOutputs unless these are the promised outputs, of the promised dtypes, and of a batched
        signature with exactly one row for each of the `rows` that went in."""
        if len(outputs) != len(self._dtypes):
            raise WrongOutputs(f"the model answered {len(outputs)} outputs, its signature names {len(self._dtypes)}")
        for name, array in outputs.items():
            dtype = self._dtypes.get(name)
            if array.dtype is not dtype and dtype is not None and array.dtype != dtype:
                raise WrongOutputs(f"the model answered output {name!r} as {array.dtype}, its signature says {dtype}")
            if not self._batched:
                continue
            if array.ndim == 0 or len(array) != rows:
                got = "no rows at all" if array.ndim == 0 else f"{len(array)} rows"
                raise WrongOutputs(f"the model answered {rows} rows with {got} of output {name!r}")


def cut(outputs: dict[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """The answers of one run, caller by caller. `rows` are the callers' row counts in the order they were joined;
    `Promise.check` has passed."""
    if len(rows) == 1:
        return [outputs]
    pieces: list[dict[str, Array]] = []
    start = 0
    for count in rows:
        pieces.append({name: array[start : start + count] for name, array in outputs.items()})
        start += count
    return pieces


def split(inputs: Tensors, rows: int, at_most: int) -> list[tuple[dict[str, Array], int]]:
    """Inputs of more rows than one run may have → pieces of at most `at_most` rows, with their row counts."""
    pieces = []
    for start in range(0, rows, at_most):
        stop = min(start + at_most, rows)
        pieces.append(({name: array[start:stop] for name, array in inputs.items()}, stop - start))
    return pieces


def shape_key(signature: str, inputs: Tensors) -> tuple[object, ...]:
    """What two callers must have in common to share a batch: signature, and each input's dtype and row shape."""
    return (signature, *[(array.dtype, array.shape[1:]) for array in inputs.values()])
