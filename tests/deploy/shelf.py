"""A registry with a stand-in for prepare, in this process or in a child that a failpoint may kill.

`python tests/deploy/shelf.py HOME register|promote|… [SOURCE]` does one thing and ends.
"""

import subprocess
import sys
from pathlib import Path

from contracts.errors import TealError
from contracts.prepare import PrepareSpec
from deploy.home import Home
from deploy.registry.asked import Asked
from deploy.registry.preparation import Steps
from deploy.registry.registry import Registry
from deploy.registry.step import StepLimits
from deploy.rollout.events import Deploy, Health, Observation, Order, Plain, Verb, Weight
from deploy.rollout.plan import Strategy
from deploy.rollout.rules import decide
from deploy.store.database import sqlite_url
from deploy.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
PREPARE = ROOT / "tests/fakes/prepare.py"
WELL = Observation(live=Health(ready=1), candidate=Health(ready=1), previous=Health(ready=1))


def argv(spec: PrepareSpec) -> list[str]:
    return [sys.executable, str(PREPARE), *spec.argv()[3:]]


def registry(path: Path, seconds: float = 60.0) -> tuple[Registry, Store, Home]:
    home = Home(path)
    store = Store(sqlite_url(home.state))
    steps = Steps(StepLimits(seconds=seconds), argv)
    return Registry(home, store, steps=steps), store, home


def source(path: Path, text: str = "ok weights") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    place = path / "source.txt"
    place.write_text(text)
    return place


def child(home: Path, *words: str, failpoint: str = "") -> "subprocess.Popen[str]":
    """Do one thing in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(home), *words],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TEAL_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(home: Path, what: str, *rest: str) -> None:
    reg, store, _ = registry(home)
    if what == "register":
        print(reg.register("m", Asked(rest[0])).version, flush=True)
    elif what == "delete":
        reg.delete("m", int(rest[0]))
    elif what == "weights":
        # One change after the other, each said aloud once it is recorded, until somebody kills us.
        units = 1
        while True:
            store.change("m", lambda d, _v, u=units: decide(d, Order(Weight(u), WELL), 1.0), actor="x", at=1.0)
            print(units, flush=True)
            units = units % 9999 + 1
    elif what == "promote":
        print(store.change("m", lambda d, _v: decide(d, Order(Plain(Verb.PROMOTE), WELL), 1.0), actor="x", at=1.0))


def canary(store: Store) -> None:
    """Bring model m to a warm candidate beside a live version."""
    for version in (1, 2):
        order = Order(Deploy(version, f"{version:064x}", Strategy.MANUAL), WELL)
        store.change("m", lambda d, _v, o=order: decide(d, o, 1.0), actor="x", at=1.0)
        store.change("m", lambda d, _v: decide(d, WELL, 1.0), actor="teal", at=1.0)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except TealError as refusal:
        print(refusal.message, file=sys.stderr)
        sys.exit(1)
