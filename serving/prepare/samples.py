"""Settles the sample inputs of every signature and records the reference's own answers to them.

Given samples come first; a signature nobody gave samples for gets generated ones that the model accepts. The amount is
bounded in rows, bytes and time, because samples are kept in the package and run again for every plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from contracts.errors import InvalidInput
from contracts.signature import Signature
from serving.engine.base import NUMPY_DTYPES, Array, Engine
from serving.prepare.generate import generate, recipes
from serving.prepare.rows import fixed_dimension, take

MAX_ROWS = 64
MIN_ROWS = 2  # fewer say nothing about whether rows influence each other
FEW_ROWS = 4  # fewer given rows than this are too few to judge by
MAX_BYTES = 16 * 1024 * 1024  # inputs and outputs of one signature
MAX_SECONDS = 0.5  # of the reference, for all rows at once


Monotonic = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """Inputs of one call and the reference's outputs for them."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Given:
    """Inputs of a signature that came with the model or from a person, one call or several of different shapes.
    `origin` names them in a sentence. `optional` ones that the model does not run on are left out with a note."""

    calls: tuple[Mapping[str, Array], ...]
    origin: str = "samples"
    optional: bool = False


@dataclass(frozen=True)
class SignatureCases:
    """The cases of a signature: the first is kept for warm-up, others have other sizes where dimensions are open.
    `why_none` is a sentence when no inputs could be found. `given` says that they were not made up, `note` what the
    report should say about them."""

    cases: tuple[Case, ...]
    given: bool = False
    why_none: str | None = None
    note: str | None = None


def settle(engine: Engine, signature: Signature, given: Given | None, monotonic: Monotonic) -> SignatureCases:
    """Find inputs the model accepts. Raise InvalidInput when it does not accept the given ones, unless these are
    optional."""
    if given is not None and given.optional:
        return _settled_if_it_runs(engine, signature, given, monotonic)
    if given is not None:
        limit = MAX_BYTES // len(given.calls)
        cases = tuple(_given_case(engine, signature, call, given.origin, limit) for call in given.calls)
        return SignatureCases(cases, given=True)
    if unknown := sorted({s.dtype for s in signature.inputs if s.dtype not in NUMPY_DTYPES}):
        return SignatureCases((), why_none=f"no samples can be made up for dtype {', '.join(unknown)}")
    return _generated(engine, signature, monotonic)


def _settled_if_it_runs(engine: Engine, signature: Signature, given: Given, monotonic: Monotonic) -> SignatureCases:
    try:
        found = settle(engine, signature, replace(given, optional=False), monotonic)
    except InvalidInput as error:
        instead = settle(engine, signature, None, monotonic)
        return replace(instead, note=f"{error.message}; samples were made up instead")
    note = f'{given.origin} is the sample of "{signature.name}"'
    if not has_rows(signature) or len(next(iter(found.cases[0].inputs.values()))) >= FEW_ROWS:
        return replace(found, note=note)
    # An example is often one row: it warms up, but judging a plan by it alone would be judging by a coin.
    made_up = settle(engine, signature, None, monotonic).cases[:1]
    return SignatureCases((*found.cases, *made_up), note=f"{note}, with made-up ones beside it")


def _given_case(engine: Engine, signature: Signature, given: Mapping[str, Array], origin: str, max_bytes: int) -> Case:
    inputs = given
    if has_rows(signature):
        rows = len(next(iter(given.values())))
        bytes_per_row = max(1, size_of(given) // rows)
        keep = max(1, min(rows, MAX_ROWS, max_bytes // 2 // bytes_per_row))
        # Evenly over the whole file: sample files are often sorted by class.
        inputs = take(given, np.unique(np.linspace(0, rows - 1, keep).astype(np.int64)))
    elif size_of(given) > max_bytes:
        raise InvalidInput(f"{origin}: expected at most {max_bytes} bytes for one call, got {size_of(given)}")
    try:
        return Case(inputs, run(engine, signature, inputs))
    except Exception as error:
        raise InvalidInput(
            f'{origin}: the model does not run on them, signature "{signature.name}": {brief(error)}'
        ) from error


def _generated(engine: Engine, signature: Signature, monotonic: Monotonic) -> SignatureCases:
    found: list[Case] = []
    sizes: set[int] = set()
    refusal = "it has no inputs"
    for recipe in recipes(signature):
        if recipe.size in sizes or (found and recipe.size == 1):
            continue
        try:
            probe = generate(signature, MIN_ROWS, recipe)
            run(engine, signature, probe)  # the first run of a shape builds kernels and is not measured
            rows = _affordable_rows(engine, signature, probe, monotonic) if not found else MIN_ROWS + 1
            inputs = generate(signature, rows, recipe)
            found.append(Case(inputs, run(engine, signature, inputs)))
            sizes.add(recipe.size)
        except Exception as error:  # the model may refuse what was made up: that is what is being tried out
            refusal = brief(error)
        if len(found) == 2:
            break
    if not found:
        return SignatureCases((), why_none=f"the model accepts none of the made-up inputs ({refusal}); give --samples")
    return SignatureCases(tuple(found))


def _affordable_rows(engine: Engine, signature: Signature, probe: Mapping[str, Array], monotonic: Monotonic) -> int:
    if not has_rows(signature):
        return MIN_ROWS
    started = monotonic()
    answer = run(engine, signature, probe)
    seconds_per_row = max((monotonic() - started) / MIN_ROWS, 1e-9)
    bytes_per_row = max((size_of(probe) + size_of(answer)) // MIN_ROWS, 1)
    return max(MIN_ROWS, min(MAX_ROWS, int(MAX_SECONDS / seconds_per_row), MAX_BYTES // bytes_per_row))


def has_rows(signature: Signature) -> bool:
    """Whether the declared shapes leave room for rows; whether rows are independent is measured later."""
    return fixed_dimension(signature) is None


def run(engine: Engine, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """One run with every answer as an array, single values and single texts included."""
    return {name: as_array(value) for name, value in engine.run(signature.name, inputs).items()}


def as_array(value: object) -> Array:
    if isinstance(value, bytes):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


def brief(error: Exception) -> str:
    """The first meaningful line of what TensorFlow says, which is often followed by pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def size_of(arrays: Mapping[str, Array]) -> int:
    """Bytes of all arrays, texts included."""
    return sum(
        a.nbytes if a.dtype.kind != "O" else sum(len(i) + 8 for i in a.ravel().tolist()) for a in arrays.values()
    )
