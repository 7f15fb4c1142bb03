"""The decisions of prepare, with values only: are answers the same, do rows meet, which plan serves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from contracts.package import PlanReport
from contracts.signature import Signature, TensorSpec
from serving.engine.base import Array
from serving.prepare.choose import choose
from serving.prepare.compare import compare, compare_one
from serving.prepare.generate import Recipe, generate, recipes
from serving.prepare.rows import fixed_dimension, influence


def floats(*values: Any, dtype: str = "float32") -> Array:
    return np.array(values, dtype)


def test_float_noise_is_the_same_answer() -> None:
    found = compare_one("y", floats([0.1, 0.9]), floats([0.10001, 0.89999]))
    assert found.wrong is None
    assert found.max_abs_error == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (floats([0.2, 0.8]), "off by up to 0.1"),
        (floats([0.1, 0.9], [0.1, 0.9]), r"expected shape \[1, 2\], got \[2, 2\]"),
        (floats([0.1, 0.9], dtype="float64"), "expected dtype float32, got float64"),
        (floats([0.1, np.nan]), "NaN or infinite values"),
    ],
)
def test_another_answer_is_named(got: Array, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        assert compare_one("y", floats([0.1, 0.9]), got).wrong is None


def test_nan_is_right_where_nan_was_expected() -> None:
    assert compare_one("y", floats(np.nan, 1.0, np.inf), floats(np.nan, 1.0, np.inf)).wrong is None
    assert compare_one("y", floats(np.inf), floats(-np.inf)).wrong is not None


def test_tolerance_goes_with_the_size_of_the_answer() -> None:
    assert compare_one("y", floats(10_000.0, 0.0), floats(10_000.5, 0.5)).wrong is None
    assert compare_one("y", floats(1.0, 0.0), floats(1.0, 0.5)).wrong is not None


def test_integers_texts_and_truths_must_be_equal() -> None:
    assert compare_one("y", np.array([1, 2]), np.array([1, 3])).wrong == (
        'output "y": 1 of 2 values differ, expected equal ones'
    )
    assert compare_one("y", np.array([b"a"], object), np.array([b"a"], object)).wrong is None
    assert compare_one("y", np.array([True]), np.array([False])).wrong is not None


def test_flipped_classes_are_counted_even_within_tolerance() -> None:
    found = compare_one("y", floats([0.50001, 0.49999]), floats([0.49999, 0.50001]))
    assert (found.wrong, found.argmax_flips) == (None, 1)


def test_a_missing_output_is_a_difference() -> None:
    assert compare({"y": floats(1.0)}, {}).wrong == 'output "y" is missing'


def test_empty_answers_are_equal() -> None:
    assert compare_one("y", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).wrong is None


def rows_meet(function: Any, inputs: Mapping[str, Array]) -> str | None:
    return influence(function, inputs, function(inputs))


X = {"x": np.random.default_rng(3).random((16, 4)).astype(np.float32)}


def test_rows_that_mind_their_own_business_may_be_joined() -> None:
    assert rows_meet(lambda i: {"y": i["x"].sum(axis=1, keepdims=True)}, X) is None


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda i: {"y": i["x"] - i["x"].mean(axis=0)}, "at a time got other answers"),
        (lambda i: {"y": i["x"] / max(100.0, float(np.nanmax(i["x"])))}, "extreme values"),
        (lambda i: {"y": np.cumsum(i["x"], axis=0)}, "at a time got other answers"),
        (lambda i: {"y": i["x"][:1]}, r"has shape \[1, 4\] for 16 rows"),
        (lambda i: {"y": np.float32(i["x"].sum())}, r"has shape \[\] for 16 rows"),
        (lambda i: {"y": np.random.random((len(i["x"]), 1))}, "when run twice"),
        (lambda i: {"y": i["x"] + len(i["x"])}, "at a time got other answers"),
        (lambda i: {"y": i["x"] * (1 if np.isfinite(i["x"]).all() else 0)}, "extreme values"),
    ],
)
def test_rows_that_meet_are_found_out(function: Any, words: str) -> None:
    why = rows_meet(function, X)
    assert why is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(why)


def test_a_model_that_refuses_made_up_neighbours_is_not_blamed() -> None:
    def picky(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if not np.all((inputs["x"] > 0) & (inputs["x"] < 1)):
            raise ValueError("out of range")
        return {"y": inputs["x"] * 2}

    assert rows_meet(picky, X) is None


def signature(*shapes: tuple[int | None, ...] | None, dtype: str = "float32") -> Signature:
    inputs = tuple(TensorSpec(f"i{n}", dtype, shape) for n, shape in enumerate(shapes))
    return Signature("s", inputs, (TensorSpec("y", "float32", (None,)),), batched=False)


def test_declared_shapes_rule_rows_out_with_a_reason() -> None:
    assert fixed_dimension(signature((None, 4))) is None
    assert fixed_dimension(signature(None)) is None
    assert fixed_dimension(signature((8, 4))) == 'input "i0" has a fixed first dimension of 8'
    assert fixed_dimension(signature((None,), ())) == 'input "i1" is a single value without rows'
    assert fixed_dimension(signature()) is not None


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool", "string", "complex64"])
def test_made_up_samples_fit_the_signature_and_are_always_the_same(dtype: str) -> None:
    wanted = signature((None, 3), (None, None, 2), (None,), dtype=dtype)
    for recipe in recipes(wanted):
        inputs = generate(wanted, 5, recipe)
        assert {a.shape for a in inputs.values()} == {(5, 3), (5, recipe.size, 2), (5,)}
        assert {a.dtype.name for a in inputs.values()} == {"object" if dtype == "string" else dtype}
        again = generate(wanted, 5, recipe)
        assert all(np.array_equal(inputs[name], again[name]) for name in inputs)


def test_a_signature_without_open_sizes_is_not_tried_in_many() -> None:
    assert {recipe.size for recipe in recipes(signature((None, 3)))} == {Recipe(8, "usual").size}


def report(name: str, status: str = "passed", **seconds: float) -> PlanReport:
    return PlanReport(name, status, "fine", seconds_per_run={k.removeprefix("b"): v for k, v in seconds.items()})


def test_the_fastest_correct_plan_is_chosen() -> None:
    name, reports = choose([report("tensorflow", b1=4.0, b64=16.0), report("litert", b1=1.0, b64=16.0)])
    assert name == "litert"
    assert [r.status for r in reports] == ["passed", "chosen"]
    assert reports[1].reason.endswith("2.0 times as fast as tensorflow")


def test_a_wrong_plan_is_not_chosen_however_fast() -> None:
    name, reports = choose([report("tensorflow", b1=4.0), report("litert", "failed", b1=0.1)])
    assert name == "tensorflow"
    assert reports[0].reason == "fine; chosen as the only correct plan"


def test_plans_are_compared_where_both_were_timed() -> None:
    slow_at_one = report("tensorflow", b1=2.0)
    assert choose([slow_at_one, report("litert", b1=1.0, b64=900.0)])[0] == "litert"


def test_without_timings_the_fallback_serves() -> None:
    assert choose([report("litert"), report("tensorflow")])[0] == "tensorflow"


def test_no_correct_plan_is_an_error() -> None:
    with pytest.raises(ValueError, match="no plan is correct"):
        choose([report("litert", "failed")])
