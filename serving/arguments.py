"""The worker's command line, as contracts.worker.WorkerSpec writes it."""

import argparse
import math
from collections.abc import Sequence

from contracts.errors import InvalidInput
from contracts.names import Color, check_model_name, check_version
from contracts.worker import WorkerSpec


def parse_arguments(argv: Sequence[str]) -> WorkerSpec:
    """Exits with EXIT_USAGE (argparse's own 2) and a sentence when an argument does not fit."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve one version of one model.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", required=True, type=int)
    parser.add_argument("--color", required=True, choices=[c.value for c in Color])
    parser.add_argument("--package", required=True, help="directory of the package")
    parser.add_argument("--digest", required=True, help="what the package must hash to")
    parser.add_argument("--socket", required=True, help="Unix socket path, or host:port")
    parser.add_argument("--threads", type=int, default=0, help="threads inside one run; 0: the worker chooses")
    parser.add_argument(
        "--replicas", type=int, default=1, help="workers of this version that share the cores, this one included"
    )
    parser.add_argument("--drain-seconds", type=float, default=30.0, help="longest time from SIGTERM to exit")
    parser.add_argument("--gentle", action="store_true", help="load at low priority, serve at the usual one")
    parser.add_argument("--quarantine", default="", help="folder to share with the version's other workers")
    parser.add_argument("--packed", default="", help="folder for packed weights, shared with the same workers")
    given = parser.parse_args(argv)
    try:
        check_model_name(given.model)
        check_version(given.version)
    except InvalidInput as error:
        parser.error(error.message)
    if given.threads < 0:
        parser.error(f"--threads is {given.threads}: expected 0 or more")
    if given.replicas < 1:
        parser.error(f"--replicas is {given.replicas}: expected 1 or more")
    if not (math.isfinite(given.drain_seconds) and given.drain_seconds >= 0):
        parser.error(f"--drain-seconds is {given.drain_seconds}: expected 0 or more")
    return WorkerSpec(
        model=given.model,
        version=given.version,
        color=Color(given.color),
        package=given.package,
        digest=given.digest,
        socket=given.socket,
        threads=given.threads,
        replicas=given.replicas,
        drain_seconds=given.drain_seconds,
        gentle=given.gentle,
        quarantine=given.quarantine,
        packed=given.packed,
    )
