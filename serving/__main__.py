"""`python -m serving`: one worker process. Exit codes are those of contracts.worker."""

import logging
import os
import sys

from contracts.errors import TealError
from contracts.worker import EXIT_CRASHED
from serving.arguments import parse_arguments
from serving.listen import listen
from serving.log import configure
from serving.priority import Usual, lower

_log = logging.getLogger("serving")


def main() -> int:
    spec = parse_arguments(sys.argv[1:])
    configure(f"model={spec.model} version={spec.version} color={spec.color}")
    usual = lower() if spec.gentle else Usual()
    # Only now: importing is a third of a second of work, and native libraries start threads, which inherit priority.
    from serving.worker import run_worker  # noqa: PLC0415

    try:
        return run_worker(spec, listen(spec.socket), usual)
    except TealError as error:
        _log.error("%s", error.message)
        return EXIT_CRASHED
    except Exception:
        _log.exception("the worker crashed")
        return EXIT_CRASHED


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Not sys.exit: runtimes that are torn down while one of their threads still computes crash or wait for ever.
    os._exit(code)
