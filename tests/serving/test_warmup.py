"""Warm-up runs everything before the first caller does."""

import numpy as np
import pytest

from contracts.clock import SystemClock
from serving.engine.samples import Samples
from serving.warmup import warm_up
from tests.serving.engines import HALF_PLUS_TWO, half_plus_two


def test_every_bucket_is_run_and_priced() -> None:
    engine = half_plus_two()
    costs = warm_up(engine, (HALF_PLUS_TWO,), (1, 2, 4), {}, SystemClock())
    assert set(costs) == {("serving_default", 1), ("serving_default", 2), ("serving_default", 4)}
    assert set(engine.runs) == {1, 2, 4}


def test_samples_are_repeated_to_fill_a_bucket() -> None:
    seen: list[list[float]] = []
    engine = half_plus_two()
    inner = engine.run
    engine.run = lambda s, i: (seen.append(i["x"].tolist()), inner(s, i))[1]  # type: ignore[method-assign]
    samples = {"serving_default": Samples({"x": np.array([5, 6, 7], np.float32)}, {})}
    warm_up(engine, (HALF_PLUS_TWO,), (4,), samples, SystemClock())
    assert seen[0] == [5, 6, 7, 5]


def test_a_model_that_refuses_zeros_stays_cold_and_one_that_refuses_its_samples_is_broken() -> None:
    assert warm_up(half_plus_two(poison=0.0), (HALF_PLUS_TWO,), (1, 2), {}, SystemClock()) == {}
    samples = {"serving_default": Samples({"x": np.zeros(1, np.float32)}, {})}
    with pytest.raises(ValueError, match="poisoned"):
        warm_up(half_plus_two(poison=0.0), (HALF_PLUS_TWO,), (1, 2), samples, SystemClock())
