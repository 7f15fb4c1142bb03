"""Says whether two answers are the same answer: shapes, dtypes, values within a tolerance. Pure.

Floats may differ by what another order of additions makes of them; everything else must be equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from serving.engine.base import Array

# dtype → (share of the biggest expected value, share of the value itself). float64 gets float32's: many models only
# widen at the end, and reject nothing that a person would call a different answer.
TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float16": (2e-3, 1e-2),
    "bfloat16": (1e-2, 2e-2),
    "float32": (1e-4, 1e-3),
    "float64": (1e-4, 1e-3),
    "complex64": (1e-4, 1e-3),
    "complex128": (1e-4, 1e-3),
}
_SMALLEST_SCALE = 1e-2  # an output that is nearly zero everywhere is not compared more finely than this


@dataclass(frozen=True)
class Difference:
    """What a comparison found. `wrong` is a sentence when the answers are not the same, else None."""

    max_abs_error: float = 0.0
    argmax_flips: int = 0
    wrong: str | None = None

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            max(self.max_abs_error, other.max_abs_error),
            self.argmax_flips + other.argmax_flips,
            self.wrong or other.wrong,
        )


def compare(expected: Mapping[str, Array], got: Mapping[str, Array]) -> Difference:
    """Compare named outputs; `got` may hold more names than expected, never fewer."""
    return total(
        compare_one(name, array, got[name]) if name in got else Difference(wrong=f'output "{name}" is missing')
        for name, array in expected.items()
    )


def total(differences: Iterable[Difference]) -> Difference:
    return sum(differences, start=Difference())


def compare_one(name: str, expected: Array, got: Array) -> Difference:
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.shape != got.shape:
        return Difference(wrong=f'output "{name}": expected shape {list(expected.shape)}, got {list(got.shape)}')
    if expected.dtype != got.dtype:
        return Difference(wrong=f'output "{name}": expected dtype {expected.dtype}, got {got.dtype}')
    if expected.dtype.name not in TOLERANCES:
        differing = int(np.sum(expected != got))
        wrong = f'output "{name}": {differing} of {expected.size} values differ, expected equal ones'
        return Difference(wrong=wrong if differing else None)
    return _compare_floats(name, expected, got)


def _compare_floats(name: str, expected: Array, got: Array) -> Difference:
    of_scale, of_value = TOLERANCES[expected.dtype.name]
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = expected.astype(wide), got.astype(wide)
    finite = np.isfinite(a)
    # NaN only where NaN was expected, infinity likewise and with its sign.
    same_special = bool(np.array_equal(a[~finite], b[~finite], equal_nan=True)) and bool(np.all(np.isfinite(b[finite])))
    if not same_special:
        return Difference(wrong=f'output "{name}": NaN or infinite values where others were expected')
    errors = np.abs(a[finite] - b[finite])
    sizes = np.abs(a[finite])
    worst = float(errors.max(initial=0.0))
    scale = max(float(sizes.max(initial=0.0)), _SMALLEST_SCALE)
    flips = _argmax_flips(a, b)
    if np.any(errors > of_scale * scale + of_value * sizes):
        return Difference(
            worst,
            flips,
            f'output "{name}": off by up to {worst:.3g} where values reach {scale:.3g}, {flips} argmax flips',
        )
    return Difference(worst, flips)


def _argmax_flips(expected: Array, got: Array) -> int:
    """Rows whose biggest value is at another place, for outputs that look like scores of classes."""
    if expected.ndim < 2 or expected.shape[-1] < 2 or expected.dtype.kind == "c" or expected.size == 0:
        return 0
    return int(np.sum(np.argmax(expected, axis=-1) != np.argmax(got, axis=-1)))
