"""Says whether two answers are the same answer: shapes, dtypes, values within a tolerance. Pure.

Floats may differ by what another order of additions makes of them; everything else must be equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from serving.engine.base import Array

Shares = tuple[float, float]  # of the output's biggest expected value, of the value itself


@dataclass(frozen=True)
class Tolerance:
    """How far answers may be off, by dtype of the output; every other dtype must be equal. `flips` is the share of
    rows whose biggest value may be at another place; None counts such rows and refuses none, because within these
    errors only ties turn."""

    shares: Mapping[str, Shares]
    flips: Fraction | None = None


# float64 gets float32's: many models only widen at the end, and reject nothing a person would call a different answer.
FULL = Tolerance(
    {
        "float16": (2e-3, 1e-2),
        "bfloat16": (1e-2, 2e-2),
        "float32": (1e-4, 1e-3),
        "float64": (1e-4, 1e-3),
        "complex64": (1e-4, 1e-3),
        "complex128": (1e-4, 1e-3),
    }
)
# What somebody accepts who allows reduced precision: 8-bit weights move a class's score by a few per cent, and may turn
# the decision of one row in a hundred.
REDUCED = Tolerance(dict.fromkeys(FULL.shares, (2e-2, 5e-2)), Fraction(1, 100))
_SMALLEST_SCALE = 1e-2  # an output that is nearly zero everywhere is not compared more finely than this


@dataclass(frozen=True)
class Difference:
    """What a comparison found. `wrong` is a sentence when the answers are not the same, else None.
    `max_rel_error` is the largest error as a share of the biggest value of its output."""

    max_abs_error: float = 0.0
    argmax_flips: int = 0
    wrong: str | None = None
    max_rel_error: float = 0.0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            max(self.max_abs_error, other.max_abs_error),
            self.argmax_flips + other.argmax_flips,
            self.wrong or other.wrong,
            max(self.max_rel_error, other.max_rel_error),
        )


def compare(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance = FULL) -> Difference:
    """Compare named outputs; `got` may hold more names than expected, never fewer."""
    return total(
        compare_one(name, array, got[name], tolerance)
        if name in got
        else Difference(wrong=f'output "{name}" is missing')
        for name, array in expected.items()
    )


def total(differences: Iterable[Difference]) -> Difference:
    return sum(differences, start=Difference())


def too_many_flips(difference: Difference, rows: int, tolerance: Tolerance) -> str | None:
    """Why `rows` compared rows decided otherwise too often, None when they did not."""
    if tolerance.flips is None or difference.argmax_flips <= rows * tolerance.flips:
        return None
    return (
        f"{difference.argmax_flips} of {rows} rows have their biggest value at another place, "
        f"at most {float(tolerance.flips):.0%} may"
    )


def compare_one(name: str, expected: Array, got: Array, tolerance: Tolerance = FULL) -> Difference:
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.shape != got.shape:
        return Difference(wrong=f'output "{name}": expected shape {list(expected.shape)}, got {list(got.shape)}')
    if expected.dtype != got.dtype:
        return Difference(wrong=f'output "{name}": expected dtype {expected.dtype}, got {got.dtype}')
    if expected.dtype.name not in tolerance.shares:
        differing = int(np.sum(expected != got))
        wrong = f'output "{name}": {differing} of {expected.size} values differ, expected equal ones'
        return Difference(wrong=wrong if differing else None)
    return _compare_floats(name, expected, got, tolerance.shares[expected.dtype.name])


def _compare_floats(name: str, expected: Array, got: Array, shares: Shares) -> Difference:
    of_scale, of_value = shares
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
    wrong = None
    if np.any(errors > of_scale * scale + of_value * sizes):
        wrong = f'output "{name}": off by up to {worst:.3g} where values reach {scale:.3g}, {flips} argmax flips'
    return Difference(worst, flips, wrong, worst / scale)


def _argmax_flips(expected: Array, got: Array) -> int:
    """Rows whose biggest value is at another place, for outputs that look like scores of classes."""
    if expected.ndim < 2 or expected.shape[-1] < 2 or expected.dtype.kind == "c" or expected.size == 0:
        return 0
    return int(np.sum(np.argmax(expected, axis=-1) != np.argmax(got, axis=-1)))
