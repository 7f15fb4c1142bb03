"""Gathers the present state of a control plane for one scrape. What is read from it is readings.py."""

from deploy.monitoring.readings import Controller, Observed
from deploy.ports import Fleet
from deploy.reconcile import Reconciler
from deploy.store.store import Store


def gathered(store: Store, fleet: Fleet, reconciler: Reconciler) -> Observed:
    """Raises what the store raises when it cannot be read."""
    with store.audited() as audit:
        head = audit.head()
    return Observed(
        store.deployments(),
        fleet.workers(),
        reconciler.applied_of,
        Controller(reconciler.leader, reconciler.epoch, reconciler.fenced_writes, 0 if head is None else head[0]),
    )
