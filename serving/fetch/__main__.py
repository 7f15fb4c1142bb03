"""`python -m serving.fetch`: one address elsewhere → files on this machine, as contracts.fetch describes it."""

import argparse
import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from contracts.errors import Internal, TealError, Unavailable
from contracts.fetch import FetchSpec
from serving.fetch.fetch import fetch
from serving.lines import Lines
from serving.prepare.isolated import die_with_parent

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger("serving.fetch")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.fetch", description="Bring a model to this machine.")
    parser.add_argument("--source", required=True, help="s3://, gs://, az://, models:/ or runs:/ address")
    parser.add_argument("--output", required=True, help="empty directory for what is fetched")
    parser.add_argument("--mlflow-uri", help="tracking and registry server of MLflow")
    given = parser.parse_args(argv)
    die_with_parent(os.getppid())
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    warnings.simplefilter("ignore")  # of libraries; nobody who reads our lines could act on them
    lines = Lines()
    try:
        fetched = fetch(FetchSpec(given.source, given.output, given.mlflow_uri), lines.stage)
    except BrokenPipeError:
        _log.warning("nobody reads the progress any more: fetching was given up")
        return 1
    except Exception as error:
        lines.error(_as_teal_error(error))
        return 1
    lines.result(path=str(fetched.path), source=fetched.source, lineage=fetched.lineage)
    return 0


def _as_teal_error(error: Exception) -> TealError:
    if isinstance(error, TealError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return Unavailable(f"no space left on the disk for what is fetched ({error.strerror}): free some and try again")
    _log.error("fetching failed", exc_info=error)
    return Internal(f"fetching the model failed: {type(error).__name__}: {str(error).splitlines()[0][:300]}")


if __name__ == "__main__":
    # Libraries start threads that nobody ends; what is written is written.
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
