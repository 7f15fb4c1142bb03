"""The router as the control plane uses it: start, publish tables, stop. Wires the parts together, decides nothing."""

from contracts.clock import Clock, SystemClock
from router.ads import Ads, Observer
from router.barrier import Barrier
from router.bootstrap import EnvoyConfig
from router.envoy import EnvoyAdmin
from router.publisher import Patience, Published, Publisher
from router.table import RoutingTable


class Router:
    """Controls the Envoy that was, or will be, started with `config`. Implements the control plane's port Traffic."""

    def __init__(
        self,
        config: EnvoyConfig,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        patience: Patience | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.admin = EnvoyAdmin(config.admin_socket, clock)
        self._ads = Ads(config.xds_socket, clock, observer)
        barrier = Barrier(config.host, config.port, config.concurrency)
        self._publisher = Publisher(self._ads, self.admin, barrier, clock, limits=config.limits, patience=patience)

    @property
    def nodes(self) -> int:
        """Envoys connected now."""
        return self._ads.nodes

    async def start(self) -> None:
        """Serve Envoy. Before the first publish Envoy is told nothing, so one that already runs keeps routing."""
        await self._ads.start()

    async def publish(self, table: RoutingTable) -> Published:
        """See Publisher.publish."""
        return await self._publisher.publish(table)

    async def stop(self) -> None:
        """Let go of Envoy, which goes on routing by the last table."""
        await self._ads.stop()
        await self.admin.close()
