"""What others notice when a big model is swapped: 50 times, 200 MB of weights each, under steady load.

A swap is `teal deploy wide N --strategy direct`, which loads, warms and switches, and then `teal drain` of the version
before, because the undo window would otherwise keep it in memory for a day. Meanwhile requests go to another model and
to the swapped one at a fixed mean rate (open loop, Poisson). In each round the other model's p99 is measured without
swaps, then with them; the memory of all processes of the gateway is compared between the beginning and the end.

    python -m loadtests.swap_bench [--rounds 5] [--seconds 10]
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from loadtests.command import Options, options, publish, say
from loadtests.homes import fresh_home, register
from loadtests.load import MOST_SECONDS, Load, Outcome
from loadtests.memory import megabytes
from loadtests.models import WIDE_ROWS
from loadtests.openloop import load_in_thread
from loadtests.report import Row, ratios
from loadtests.tensors import v1_json
from tests.e2e.gateway import Gateway, eventually, running

SWAPS = 50
SWAPPED, OTHER = "wide", "digits"
OTHER_RATE, SWAPPED_RATE = 200.0, 20.0  # requests per second
SWAP_SECONDS = 120.0


@dataclass(frozen=True)
class Window:
    """What the callers of both models saw meanwhile."""

    other: Outcome
    swapped: Outcome

    @property
    def failed(self) -> int:
        return sum(outcome.sent - outcome.ok for outcome in (self.other, self.swapped))


def swap(gateway: Gateway) -> None:
    """Put the version that is not live in the place of the one that is; return when the old one's process is gone."""
    live = gateway.status(SWAPPED)["live"]
    old, new = live["version"], 3 - live["version"]
    pids = gateway.worker_pids(model=SWAPPED)
    gateway.order("deploy", SWAPPED, version=new, strategy="direct")
    eventually(
        f"version {new} is live", lambda: gateway.status(SWAPPED)["live"]["version"] == new, SWAP_SECONDS, pause=0.2
    )
    gateway.order("drain", SWAPPED, version=old)
    gone = [Path(f"/proc/{pid}") for pid in pids]
    eventually(f"version {old} is gone", lambda: not any(p.exists() for p in gone), SWAP_SECONDS, pause=0.2)


def window(gateway: Gateway, meanwhile: Callable[[], None]) -> Window:
    """Both loads until `meanwhile` returns."""
    pixels = v1_json((load_digits().data[:1] / 16.0).astype(np.float32)).content
    ids = v1_json(np.random.default_rng(7).integers(0, WIDE_ROWS, (1, 16))).content
    loads = [
        Load(f"{gateway.url}/v1/models/{model}:predict", rate, MOST_SECONDS, body=body, poisson=True)
        for model, rate, body in ((OTHER, OTHER_RATE, pixels), (SWAPPED, SWAPPED_RATE, ids))
    ]
    with load_in_thread(*loads) as outcomes:
        meanwhile()
    other, swapped = outcomes.result()
    return Window(other, swapped)


def memory_of(gateway: Gateway) -> dict[str, float]:
    """MB by part of the gateway, and of all processes; a leak has a place."""
    assert gateway.process is not None
    parts = {"control plane": [gateway.process.pid], "Envoy": [gateway.envoy_pid()]}
    workers = [pid for pid in gateway.processes() if pid not in (*parts["control plane"], *parts["Envoy"])]
    sizes = {part: megabytes(pids) for part, pids in {**parts, "workers": workers}.items()}
    return {**sizes, "all": sum(sizes.values())}


def measure(gateway: Gateway, chosen: Options) -> list[Row]:
    swaps = SWAPS // chosen.rounds

    def swap_times(count: int) -> None:
        for _ in range(count):
            swap(gateway)

    # What the first traffic and the first load of each version leave behind for good is not what is asked about.
    window(gateway, lambda: swap_times(2))
    before = memory_of(gateway)
    idle, swapping = [], []
    for number in range(chosen.rounds):
        say(f"round {number + 1}: idle")
        idle.append(window(gateway, lambda: time.sleep(chosen.seconds)))
        say(f"round {number + 1}: {swaps} swaps")
        swapping.append(window(gateway, lambda: swap_times(swaps)))
    after = memory_of(gateway)
    quiet = [each.other.quantile(0.99) for each in idle]
    busy = [each.other.quantile(0.99) for each in swapping]
    failed = tuple(float(a.failed + b.failed) for a, b in zip(idle, swapping, strict=True))
    return [
        Row("the other model's p99, idle", "ms", tuple(s * 1e3 for s in quiet)),
        Row("the other model's p99, during swaps", "ms", tuple(s * 1e3 for s in busy)),
        Row("p99, during swaps / idle", "x", ratios(busy, quiet), 1.3, at_least=False),
        Row("failed requests of a round, both models", "", failed, 0, at_least=False),
        *[Row(f"memory before: {part}", "MB", (size,)) for part, size in before.items()],
        *[Row(f"memory after {swaps * chosen.rounds} swaps: {part}", "MB", (size,)) for part, size in after.items()],
        Row("memory of all, after / before", "x", (after["all"] / before["all"],), 1.05, at_least=False),
    ]


def main() -> None:
    chosen = options("swap_bench", __doc__, rounds=5, seconds=10)
    with fresh_home() as home:
        register(home, OTHER, "digits/dense")
        for source in ("wide-1", "wide-2"):
            register(home, SWAPPED, source)
        with running(home) as gateway:
            gateway.must("deploy", OTHER, "1", "--wait")
            gateway.must("deploy", SWAPPED, "1", "--wait")
            rows = measure(gateway, chosen)
    notes = [
        f"{chosen.rounds} rounds of {chosen.seconds:g} s idle and {SWAPS // chosen.rounds} swaps; open loop, Poisson, "
        f"{OTHER_RATE:g} requests/s to the other model and {SWAPPED_RATE:g}/s to the swapped one.",
    ]
    publish("swap", "Swapping a model of 200 MB beside another one", rows, notes)


if __name__ == "__main__":
    main()
