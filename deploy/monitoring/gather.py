"""Gathers the present state of a control plane for each scrape. What is read from it is readings.py."""

from deploy.audit.patrol import Patrol
from deploy.monitoring.readings import Controller, Observed
from deploy.ports import Fleet
from deploy.reconcile import Reconciler
from deploy.store.store import Store


class Gathering:
    """Call it in a thread: it reads the database."""

    def __init__(self, store: Store, fleet: Fleet, reconciler: Reconciler) -> None:
        self._store = store
        self._fleet = fleet
        self._reconciler = reconciler
        self._patrol = Patrol()

    def __call__(self) -> Observed:
        """Raises what the store raises when it cannot be read."""
        with self._store.audited() as audit:
            self._patrol.walk(audit)
            head = audit.head()
        here = self._reconciler
        records = 0 if head is None else head[0]
        controller = Controller(here.leader, here.epoch, here.fenced_writes, records, self._patrol.intact)
        return Observed(self._store.deployments(), self._fleet.workers(), here.applied_of, controller)
