"""The two commands that run a gateway: `teal up` and `teal demo`.

What they start is imported inside the functions, because it is heavy (FastAPI, SQLAlchemy) and every other command
would pay for it.
"""

from typing import Annotated

import typer

from contracts.errors import InvalidInput
from deploy.cli.options import DEFAULT_ADMIN_PORT, DEFAULT_HOME, DEFAULT_PORT, AdminPort, Home, Port


def up(
    home: Home = DEFAULT_HOME,
    port: Port = DEFAULT_PORT,
    admin_port: AdminPort = DEFAULT_ADMIN_PORT,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus",
            metavar="URL",
            envvar="TEAL_PROMETHEUS_URL",
            help="Prometheus that rollouts ask for evidence; this gateway's own counts are the second opinion.",
        ),
    ] = None,
) -> int:
    """Run the gateway in the foreground.

    Ctrl-C drains and stops it. What was deployed comes back at the next start."""
    _check_ports(port, admin_port)
    from deploy import control

    return control.run(home, port, admin_port, prometheus)


def demo(
    home: Home = DEFAULT_HOME,
    port: Port = DEFAULT_PORT,
    admin_port: AdminPort = DEFAULT_ADMIN_PORT,
    leave: Annotated[bool, typer.Option("--exit", help="Stop everything at the end instead of leaving it up.")] = False,
) -> int:
    """Train two models, serve them, shift traffic, look.

    Uses scikit-learn's handwritten digits. Leaves the gateway up; Ctrl-C drains and stops it."""
    _check_ports(port, admin_port)
    from deploy.demo import tour

    return tour.run(home, port, admin_port, leave=leave)


def _check_ports(port: int, admin_port: int) -> None:
    if port == admin_port:
        raise InvalidInput(f"--port and --admin-port are both {port}: expected two different ports")
