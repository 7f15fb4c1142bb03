"""`python -m serving.prepare`: one model source → one package, as contracts.prepare describes it."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from contracts.clock import SystemClock
from contracts.errors import DeadlineExceeded, Internal, TealError, Unavailable
from contracts.prepare import PrepareSpec
from serving.lines import Lines
from serving.prepare.isolated import is_full_disk
from serving.prepare.ports import LitertRuntime, Runtime
from serving.prepare.samples import brief
from serving.prepare.stages import Watch
from serving.prepare.steps import prepare

_log = logging.getLogger("serving.prepare")


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
    lines.result(digest=prepared.digest, plan=prepared.plan, source=prepared.source)
    return 0


def _parse(argv: Sequence[str]) -> PrepareSpec:
    parser = argparse.ArgumentParser(prog="python -m serving.prepare", description="Turn a model into a package.")
    parser.add_argument("--source", required=True, help="SavedModel or version directory, .keras or .tflite file")
    parser.add_argument("--output", required=True, help="empty directory for the package")
    parser.add_argument("--samples", help=".npz or JSON file with sample inputs")
    parser.add_argument("--lineage", help="JSON file with where the model comes from")
    parser.add_argument(
        "--allow-reduced-precision",
        action="store_true",
        help="also try plans that compute less precisely, and let one serve when it is close enough and faster",
    )
    parser.add_argument("--preprocessing", help="JSON file with how a picture becomes the model's input")
    given = parser.parse_args(argv)
    return PrepareSpec(
        given.source, given.output, given.samples, given.lineage, given.allow_reduced_precision, given.preprocessing
    )


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
