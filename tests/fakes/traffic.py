"""An Envoy in memory: keeps what it acknowledged, and refuses or is silent when a test says so."""

import asyncio

from deploy.ports import Applied
from router.errors import PublishRefused, PublishTimedOut
from router.table import RoutingTable


class FakeTraffic:
    """Honest Traffic: a publish that fails leaves the former table in force; publishes never overlap.

    refuse    Envoy's words with which it refuses everything, None when it accepts
    silent    Envoy is not there
    """

    def __init__(self) -> None:
        self.refuse: str | None = None
        self.silent = False
        self.tables: list[RoutingTable] = []
        self._busy = False

    @property
    def table(self) -> RoutingTable:
        """What is in force."""
        return self.tables[-1] if self.tables else RoutingTable()

    async def publish(self, table: RoutingTable) -> Applied:
        if self._busy:
            raise AssertionError("two publishes at once")
        self._busy = True
        try:
            await asyncio.sleep(0)  # others run while Envoy thinks
            if self.silent:
                raise PublishTimedOut("Envoy did not acknowledge within 5 s")
            if self.refuse is not None:
                raise PublishRefused(f"Envoy refused the routes: {self.refuse}")
            self.tables.append(table)
            return Applied(version=str(len(self.tables)), seconds=0.0)
        finally:
            self._busy = False
