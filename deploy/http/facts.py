"""What the API needs from the control plane, handed over by control.py: the parts it asks and a few facts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.clock import Clock
from deploy.commands import Commands
from deploy.ports import Fleet
from deploy.reconcile import Reconciler
from deploy.registry.registry import Registry
from deploy.store.store import Store
from deploy.telemetry import Telemetry

Scrape = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Parts:
    """`envoy_state` says "ready" or why not, as of the last look at the process; `envoy_ready` asks Envoy now;
    `envoy_metrics` and `worker_metrics` fetch Prometheus text and raise
    Unavailable when nobody answers. `hosts` are accepted in the Host header besides loopback."""

    store: Store
    registry: Registry
    fleet: Fleet
    reconciler: Reconciler
    commands: Commands
    telemetry: Telemetry
    clock: Clock
    port: int
    admin_port: int
    envoy_state: Callable[[], str]
    envoy_ready: Callable[[], Awaitable[bool]]
    envoy_pid: Callable[[], int | None]
    envoy_metrics: Scrape
    worker_metrics: Callable[[str], Awaitable[bytes]]
    hosts: tuple[str, ...] = ()
