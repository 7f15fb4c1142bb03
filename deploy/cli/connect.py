"""Finds who can answer a command: the gateway at --server, the one running on --home, or the home itself.

httpx and SQLAlchemy are imported inside the functions that need them: `teal --help` and a mistyped option must not
wait for either.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import Unavailable

if TYPE_CHECKING:
    from deploy.cli.local import LocalHome, NoHome
    from deploy.client import Client
    from deploy.predictions import Predictions

    Reader = Client | LocalHome | NoHome


@dataclass(frozen=True)
class Target:
    """Where a command was pointed at; `server` wins over `home`."""

    home: Path
    server: str | None = None

    def command_line(self) -> str:
        """What a user adds to a command to point it here again; empty for the default home."""
        if self.server is not None:
            return f" --server {self.server}"
        return "" if self.home == Path(".teal") else f" --home {self.home}"


def client(target: Target) -> "Client":
    """The running gateway. Raises Unavailable with how to start one when there is none."""
    found = running(target)
    if found is None:
        raise Unavailable(f"no gateway is running on {target.home}; start one with: teal up{target.command_line()}")
    return found


def running(target: Target) -> "Client | None":
    """The running gateway, or None when nothing runs on this home. A --server is always believed to run."""
    from deploy.client import Client
    from deploy.home import Home

    if target.server is not None:
        return Client(target.server)
    if not target.home.is_dir():
        return None  # asking must not create a home
    gateway = Home(target.home).gateway()
    return None if gateway is None else Client(f"http://127.0.0.1:{gateway.admin_port}")


def reader(target: Target) -> "Reader":
    """Who answers reading commands: the running gateway, else the home itself."""
    from deploy.cli.local import LocalHome, NoHome

    gateway = running(target)
    if gateway is not None:
        return gateway
    # Not by its state: that may be elsewhere (TEAL_STATE_URL), or lost, which is not the same as nothing.
    return LocalHome(target.home) if (target.home / "packages").is_dir() else NoHome(target.home)


def home(target: Target) -> "LocalHome":
    """The home itself, created if need be: registering needs no gateway and never asks one."""
    from deploy.cli.local import LocalHome

    return LocalHome(target.home)


def predictions(target: Target) -> "Predictions":
    """The predictions port of the running gateway. Raises Unavailable when there is none."""
    import httpx

    from deploy.predictions import Predictions

    with client(target) as gateway:
        facts = gateway.overview()["gateway"]
        if facts is None:
            raise Unavailable(f"{gateway.url} serves no predictions; start a gateway with: teal up")
        return Predictions(str(httpx.URL(gateway.url).copy_with(port=facts["port"])))
