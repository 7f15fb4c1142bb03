"""One thread that lives as long as the process, for everything that would hold up the event loop."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class EngineThread(Executor):
    """Runs one call after the other. Unlike the standard pool it never keeps the process alive: a run that hangs must
    not be able to stop the worker from being replaced."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # it belongs to whoever asked, SystemExit of a model included
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, call  # a thread that waits must not hold on to the last batch
