"""What the API needs from the control plane, handed over by control.py: the parts it asks and a few facts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.clock import Clock
from deploy import answers, views
from deploy.commands import Commands
from deploy.feedback import Judge
from deploy.foresight import Foresight
from deploy.ports import Fleet, Recollection
from deploy.reconcile import Reconciler
from deploy.registry.registry import Registry
from deploy.rollout.deployment import Deployment
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
    foresight: Foresight
    telemetry: Telemetry
    clock: Clock
    port: int
    admin_port: int
    envoy_state: Callable[[], str]
    envoy_ready: Callable[[], Awaitable[bool]]
    envoy_pid: Callable[[], int | None]
    envoy_metrics: Scrape
    worker_metrics: Callable[[str], Awaitable[bytes]]
    recollection: Recollection
    judge: Judge
    hosts: tuple[str, ...] = ()


def status_of(parts: Parts, deployment: Deployment) -> answers.Status:
    """A model's status, as every call that answers with one shows it."""
    return views.status_view(
        deployment,
        parts.fleet.workers(),
        parts.reconciler.applied_of(deployment.model),
        parts.reconciler.problem,
        parts.telemetry.rollouts.share_of(deployment.model),
    )
