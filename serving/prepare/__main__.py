"""`python -m serving.prepare`: one model source → one package, as contracts.prepare describes it.

Standard output carries nothing but our JSON lines. TensorFlow, its C++ side included, prints where it likes, so the
real standard output is put aside and everything else goes to standard error.
"""

import argparse
import importlib
import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from contracts.clock import SystemClock
from contracts.errors import DeadlineExceeded, Internal, TealError, Unavailable
from contracts.prepare import PrepareSpec
from serving.prepare.isolated import is_full_disk
from serving.prepare.ports import LitertRuntime, Runtime
from serving.prepare.samples import brief
from serving.prepare.stages import Watch
from serving.prepare.steps import prepare

_log = logging.getLogger("serving.prepare")


class Lines:
    """Our end of the pipe to the caller. After the last line, `result` or `error`, nothing is written any more."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._ended = False

    def stage(self, stage: str, detail: str) -> None:
        self._write({"stage": stage, "detail": detail}, last=False)

    def result(self, digest: str, plan: str) -> None:
        self._write({"result": {"digest": digest, "plan": plan}}, last=True)

    def error(self, error: TealError) -> None:
        self._write({"error": {"code": error.code, "message": error.message}}, last=True)

    def _write(self, line: dict[str, Any], last: bool) -> None:
        with self._lock:
            if not self._ended:
                self._ended = last
                self._stream.write(json.dumps(line) + "\n")
                self._stream.flush()


def main(argv: Sequence[str]) -> int:
    spec = _parse(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    lines = Lines()
    watch = Watch(lines.stage, lambda sentence: _leave(lines, sentence))
    try:
        prepared = prepare(spec, watch, SystemClock(), _open_runtime, _open_litert)
    except BrokenPipeError:
        _log.warning("nobody reads the progress any more: preparing was given up")
        return 1
    except Exception as error:
        _log.exception("preparing %s failed", spec.source)
        lines.error(_as_teal_error(error, watch.stage))
        return 1
    finally:
        watch.stop()
    lines.result(prepared.digest, prepared.plan)
    return 0


def _parse(argv: Sequence[str]) -> PrepareSpec:
    parser = argparse.ArgumentParser(prog="python -m serving.prepare", description="Turn a model into a package.")
    parser.add_argument("--source", required=True, help="SavedModel or version directory, .keras or .tflite file")
    parser.add_argument("--output", required=True, help="empty directory for the package")
    parser.add_argument("--samples", help=".npz or JSON file with sample inputs")
    parser.add_argument("--lineage", help="JSON file with where the model comes from")
    given = parser.parse_args(argv)
    return PrepareSpec(given.source, given.output, given.samples, given.lineage)


def _open_runtime() -> Runtime:
    # Imported by name and late: a source that the scan refuses must not wait seconds for TensorFlow. Both variables
    # are read at import: errors only, and no looking for graphics cards, unless the caller says otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    runtime: Runtime = importlib.import_module("serving.prepare.runtime").open_runtime()
    return runtime


def _open_litert() -> LitertRuntime:
    runtime: LitertRuntime = importlib.import_module("serving.prepare.runtime_litert").open_runtime()
    return runtime


def _as_teal_error(error: Exception, stage: str) -> TealError:
    if isinstance(error, TealError):
        return error
    if is_full_disk(error):
        return Unavailable(
            f'no space left on the disk that packages are written to, in stage "{stage}" ({_words(error)}): '
            "free some and register again"
        )
    if isinstance(error, MemoryError):
        return Unavailable(f'not enough memory to prepare this model, in stage "{stage}"')
    return Internal(f'preparing failed in stage "{stage}": {type(error).__name__}: {brief(error)}')


def _words(error: Exception) -> str:
    return error.strerror or "full" if isinstance(error, OSError) else brief(error)


def _leave(lines: Lines, sentence: str) -> None:
    """From the watch's thread: the main thread is stuck in native code, so the process ends here and now."""
    lines.error(DeadlineExceeded(sentence))
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
