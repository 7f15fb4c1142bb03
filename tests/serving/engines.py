"""Honest engines without a runtime: small arithmetic on numpy arrays, with faults that a test can order."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from contracts.signature import Signature, TensorSpec
from serving.engine.base import Array, Tensors

HALF_PLUS_TWO = Signature(
    "serving_default", (TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (None,)),), batched=True
)


class FormulaEngine:
    """Runs `formula` on the inputs. `poison` is a value that makes any run holding it raise, as a bad row does."""

    plan = "litert"
    pads = True

    def __init__(self, formula: Callable[[Tensors], dict[str, Array]], poison: float | None = None) -> None:
        self._formula = formula
        self.poison = poison
        self.runs: list[int] = []  # rows of every run, in order
        self.inside = 0
        self.broken_rows = 0  # how many rows too few the model answers

    def warm(self, bucket: int) -> None:
        pass

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        self.inside += 1
        assert self.inside == 1, "two threads inside one engine"
        try:
            first = next(iter(inputs.values()))
            self.runs.append(len(first) if first.ndim else 1)
            if self.poison is not None and any(np.any(a == self.poison) for a in inputs.values() if a.dtype != object):
                raise ValueError("poisoned row in /secret/path")
            outputs = self._formula(inputs)
            return (
                {name: a[: len(a) - self.broken_rows] for name, a in outputs.items()} if self.broken_rows else outputs
            )
        finally:
            self.inside -= 1

    def close(self) -> None:
        pass


def half_plus_two(poison: float | None = None) -> FormulaEngine:
    return FormulaEngine(lambda inputs: {"y": inputs["x"] / np.float32(2) + np.float32(2)}, poison)


def identity(poison: float | None = None) -> FormulaEngine:
    """Answers `y` = `x`: whoever gets another row than their own can see it."""
    return FormulaEngine(lambda inputs: {"y": inputs["x"].copy()}, poison)


class HandExecutor(Executor):
    """An engine thread that runs a call only when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run_one(self) -> None:
        future, call = self.waiting.pop(0)
        assert threading.current_thread() is threading.main_thread()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)
