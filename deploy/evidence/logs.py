"""Sums of probabilities that are kept as logarithms, because evidence of thousands of blocks leaves the floats."""

import math
from collections.abc import Sequence

NONE = 0.0
"""The logarithm of an e-value of 1: no evidence either way."""


def log_mean(logs: Sequence[float]) -> float:
    """log of the mean of e^x. An average of e-values is an e-value, whatever their dependence."""
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(x - top) for x in logs) / len(logs))


def log_mix(logs: Sequence[float], weights: Sequence[float]) -> float:
    """log of the weighted mean of e^x; `weights` add up to 1."""
    return log_mean([x + math.log(weight * len(logs)) for x, weight in zip(logs, weights, strict=True)])
